// Makes src/generated from the Python package: types and validators from the JSON Schemas, and the charts.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import Ajv from 'ajv/dist/2020.js';
import standaloneCode from 'ajv/dist/standalone/index.js';
import { compile } from 'json-schema-to-typescript';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const repository = join(root, '..');
const generated = join(root, 'src', 'generated');

const python = (...args) =>
  JSON.parse(execFileSync(process.env.PYTHON ?? 'python3', args, { cwd: repository, encoding: 'utf-8' }));
mkdirSync(generated, { recursive: true });
cpSync(join(repository, 'fwmagic', 'charts'), join(generated, 'charts'), { recursive: true });
const names = python('-c', 'import json; from fwmagic.report.words import CHARTS; print(json.dumps(list(CHARTS)))');
writeFileSync(
  join(generated, 'charts.ts'),
  `${names.map(name => `import ${name} from './charts/${name}.json';`).join('\n')}

const files: Record<
  string,
  Record<string, unknown> & { readonly usermeta: { readonly title: string; readonly table: readonly string[] } }
> = { ${names.join(', ')} };
export default files;
`
);
for (const [name, schema] of Object.entries(python('-m', 'fwmagic.report.schema'))) {
  const file = name.toLowerCase();
  // What is stored leaves out what holds its default, and the validator puts it back: the types have all fields.
  const full = JSON.parse(JSON.stringify(schema), (_, value) =>
    value?.properties === undefined
      ? value
      : { ...value, required: Object.keys(value.properties).filter(name => name !== 'words') }
  );
  writeFileSync(join(generated, `${file}.ts`), await compile(full, name, { additionalProperties: false }));
  // What a later fwmagic stores in the same version may have fields that this panel does not know: they are no fault.
  const open = JSON.parse(JSON.stringify(schema), (key, value) =>
    key === 'additionalProperties' && value === false ? undefined : value
  );
  const ajv = new Ajv({
    code: { source: true, esm: true },
    strict: true,
    validateFormats: false,
    useDefaults: true,
    inlineRefs: false // inlined below an `anyOf`, a default would be passed over
  });
  writeFileSync(join(generated, `validate${name}.js`), standaloneCode.default(ajv, ajv.compile(open)));
  writeFileSync(
    join(generated, `validate${name}.d.ts`),
    `import type { ${name} } from './${file}';
declare const validate: {
  (value: unknown): value is ${name};
  errors?: { instancePath: string; message?: string }[] | null;
};
export default validate;
`
  );
}
