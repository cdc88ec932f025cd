// Checks responses against the types that the SDK declares for its methods.
//
// The TypeScript compiler reads the declarations from the installed package, so the expectations follow the
// SDK's version. Fields that the SDK does not declare are allowed, because its parser keeps them.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import ts from "typescript";

/** @typedef {"Apps" | "Meetings" | "Presets"} Group */

const groups = /** @type {const} */ ({ Apps: "apps", Meetings: "meetings", Presets: "presets" });
const declared = Object.values(groups).map((file) =>
  fileURLToPath(import.meta.resolve(`cloudflare/resources/realtime-kit/${file}`)).replace(/\.m?js$/, ".d.mts"));
const program = ts.createProgram(declared, {
  strict: true, noEmit: true, skipLibCheck: true, types: [],
  module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2023,
});
const checker = program.getTypeChecker();

/**
 * The type `T` of the `APIPromise<T>` that a method of a resource class returns.
 * @param {Group} group @param {string} method
 */
function responseType(group, method) {
  const file = program.getSourceFiles().find((f) => f.fileName.endsWith(`realtime-kit/${groups[group]}.d.mts`));
  assert(file, `the SDK has no declarations for ${group}`);
  const exports = checker.getExportsOfModule(/** @type {ts.Symbol} */ (checker.getSymbolAtLocation(file)));
  const classSymbol = exports.find((symbol) => symbol.name === `Base${group}`);
  assert(classSymbol, `the SDK has no class Base${group}`);
  const property = checker.getDeclaredTypeOfSymbol(classSymbol).getProperty(method);
  assert(property, `${group} has no method ${method}`);
  const [signature] = checker.getTypeOfSymbol(property).getCallSignatures();
  const promise = signature && checker.getAwaitedType(signature.getReturnType());
  assert(promise, `${group}.${method} does not return a promise`);
  return promise;
}

/**
 * All differences between `value` and `type`, as "path: problem".
 * @param {ts.Type} type @param {unknown} value @param {string} path @returns {string[]}
 */
function differences(type, value, path) {
  if (type.flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown)) return [];
  if (type.isUnion()) {
    const tried = type.types.map((one) => differences(one, value, path));
    if (tried.some((found) => found.length === 0)) return [];
    const objects = type.types.flatMap((one, i) => (one.flags & ts.TypeFlags.Object ? [tried[i] ?? []] : []));
    return objects.length === 1 && value !== null && typeof value === "object" && objects[0]
      ? objects[0]
      : [`${path}: ${JSON.stringify(value)} is not ${checker.typeToString(type)}`];
  }
  if (type.isIntersection()) return type.types.flatMap((one) => differences(one, value, path));
  if (type.isLiteral()) return value === type.value ? [] : [`${path}: ${JSON.stringify(value)} is not ${JSON.stringify(type.value)}`];
  if (type.flags & ts.TypeFlags.Object) return objectDifferences(type, value, path);
  const fits =
    (type.flags & ts.TypeFlags.String && typeof value === "string") ||
    (type.flags & ts.TypeFlags.Number && typeof value === "number") ||
    (type.flags & ts.TypeFlags.BooleanLiteral && String(value) === checker.typeToString(type)) ||
    (type.flags & ts.TypeFlags.Null && value === null) ||
    (type.flags & ts.TypeFlags.Undefined && value === undefined);
  return fits ? [] : [`${path}: ${JSON.stringify(value)} is not ${checker.typeToString(type)}`];
}

/** @param {ts.Type} type @param {unknown} value @param {string} path @returns {string[]} */
function objectDifferences(type, value, path) {
  if (checker.isArrayType(type)) {
    const [item] = checker.getTypeArguments(/** @type {ts.TypeReference} */ (type));
    if (!Array.isArray(value) || !item) return [`${path}: ${JSON.stringify(value)} is not a list`];
    return value.flatMap((one, i) => differences(item, one, `${path}[${i}]`));
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [`${path}: ${JSON.stringify(value)} is not an object`];
  const fields = /** @type {Record<string, unknown>} */ (value);
  const known = type.getProperties();
  const found = known.flatMap((property) => {
    const optional = Boolean(property.flags & ts.SymbolFlags.Optional);
    if (!(property.name in fields)) return optional ? [] : [`${path}.${property.name}: is missing`];
    return differences(checker.getTypeOfSymbol(property), fields[property.name], `${path}.${property.name}`);
  });
  const rest = type.getStringIndexType();
  const others = rest ? Object.keys(fields).filter((name) => !known.some((p) => p.name === name)) : [];
  return [...found, ...others.flatMap((name) => (rest ? differences(rest, fields[name], `${path}.${name}`) : []))];
}

/**
 * Checks that `response` has the type that the SDK declares for `group.method`, and returns it.
 * @template T @param {Group} group @param {string} method @param {T} response @returns {T}
 */
export function checkType(group, method, response) {
  assert.deepEqual(differences(responseType(group, method), response, `${group}.${method}`), []);
  return response;
}
