// The writing of settings by itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toYaml } from './yaml.mjs';

test('lists of maps, empty values and odd keys are written as block YAML', () => {
  assert.equal(toYaml({
    server: { port: 1, proxies: [], note: undefined },
    oidc: [{ id: 'main', scopes: ['openid', 'email'] }],
    mapping: { 'a@b.test': 'admin', plain: 'x: "y"' },
  }), [
    'server:', '  port: 1', '  proxies: []',
    'oidc:', '  - id: "main"', '    scopes:', '      - "openid"', '      - "email"',
    'mapping:', '  "a@b.test": "admin"', '  plain: "x: \\"y\\""', '',
  ].join('\n'));
});
