// What a page looks like from outside: does it fit its width?

/** Elements that reach beyond the right edge and are not inside something that scrolls by itself. */
export function sticksOut(page) {
  return page.evaluate(() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const scrollsItself = (element) => {
      for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) {
        if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(up).overflowX)) return true;
      }
      return false;
    };
    const wide = [...document.querySelectorAll('body *')]
      .filter((element) => element.getBoundingClientRect().right > root.clientWidth + 0.5 && !scrollsItself(element))
      .map((element) => `<${element.localName} class="${element.className}"> ${element.textContent.trim().slice(0, 40)}`);
    return [`the page is ${root.scrollWidth} px wide in ${root.clientWidth} px`, ...wide];
  });
}
