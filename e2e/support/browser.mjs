// One Chromium per file, one fresh context per person.

import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const places = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const flags = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  // The hosts of a team, all on this machine.
  '--host-resolver-rules=MAP *.team.example 127.0.0.1',
];
const PATIENCE_MS = 15_000;

export const WIDE = { width: 1280, height: 900 };
export const NARROW = { width: 390, height: 844 };

let browser;

async function theBrowser() {
  const executablePath = places.find((place) => place && existsSync(place));
  if (!executablePath) throw new Error('no Chromium found: install it or set CHROMIUM to its path');
  browser ??= chromium.launch({ executablePath, headless: true, args: flags });
  return browser;
}

export async function endBrowser() {
  await (await browser)?.close();
  browser = undefined;
}

/**
 * A person at a browser of their own: no cookies, no cache. `complaints` collects what the browser
 * reports (script errors, violations of the content security policy), `hosts` whom it called.
 */
export async function newPerson({ viewport = WIDE, colorScheme = 'light', javaScript = true, ignoreHTTPSErrors = false } = {}) {
  const context = await (await theBrowser()).newContext({
    viewport, colorScheme, javaScriptEnabled: javaScript, ignoreHTTPSErrors, reducedMotion: 'reduce', locale: 'en-GB',
    // A new person must not be let off by a policy switch: the pages' own CSP stays in force.
    bypassCSP: false,
  });
  context.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  const hosts = new Set();
  context.on('request', (request) => hosts.add(new URL(request.url()).host));
  context.on('console', (message) => {
    const isStatus = message.text().startsWith('Failed to load resource: the server responded with a status of');
    if (message.type() === 'error' && !isStatus) complaints.push(`${message.page()?.url()}: ${message.text()}`);
  });
  context.on('weberror', (error) => complaints.push(String(error.error())));
  context.on('page', (page) => page.on('dialog', (dialog) => dialog.accept().catch(() => {})));
  const page = await context.newPage();
  return { context, page, complaints, hosts };
}
