// Writes a settings object as block YAML. Scalars are written as JSON, which YAML reads.

const isBranch = (value) => value !== null && typeof value === 'object' && Object.keys(value).length > 0;

/** The settings as a YAML document. Keys whose value is `undefined` are left out. */
export function toYaml(settings) {
  return lines(settings, 0).join('\n') + '\n';
}

function lines(value, depth) {
  const indent = '  '.repeat(depth);
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      if (!isBranch(item)) return [`${indent}- ${JSON.stringify(item)}`];
      const [first, ...rest] = lines(item, depth + 1);
      return [`${indent}- ${first.trimStart()}`, ...rest];
    });
  }
  return Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .flatMap(([key, item]) => {
      const name = /^[A-Za-z_][\w.-]*$/.test(key) ? key : JSON.stringify(key);
      return isBranch(item)
        ? [`${indent}${name}:`, ...lines(item, depth + 1)]
        : [`${indent}${name}: ${JSON.stringify(item)}`];
    });
}
