// Prints what the Khronos glTF Validator says of files, as one JSON object: path → report.
// node validate_gltf.mjs NODE_MODULES FILE.glb…   NODE_MODULES: where npm put gltf-validator
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [modules, ...files] = process.argv.slice(2);
const validator = createRequire(import.meta.url)(resolve(modules, 'gltf-validator'));
const reports = {};
for (const file of files) {
  const bytes = new Uint8Array(readFileSync(file));
  reports[file] = await validator.validateBytes(bytes, { writeTimestamp: false });
}
console.log(JSON.stringify(reports));
