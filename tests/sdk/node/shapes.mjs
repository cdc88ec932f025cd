// Checks a reply against the type that the SDK declares for the method it came from.
//
// The declarations are read from the installed package by the TypeScript compiler, so a newer SDK
// brings its own expectations. Fields the SDK does not know are allowed: its own parser keeps them.

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
function replyType(group, method) {
  const file = program.getSourceFiles().find((f) => f.fileName.endsWith(`realtime-kit/${groups[group]}.d.mts`));
  assert(file, `the SDK has no declarations for ${group}`);
  const exports = checker.getExportsOfModule(/** @type {ts.Symbol} */ (checker.getSymbolAtLocation(file)));
  const holder = exports.find((symbol) => symbol.name === `Base${group}`);
  assert(holder, `the SDK has no class Base${group}`);
  const property = checker.getDeclaredTypeOfSymbol(holder).getProperty(method);
  assert(property, `${group} has no method ${method}`);
  const [signature] = checker.getTypeOfSymbol(property).getCallSignatures();
  const promise = signature && checker.getAwaitedType(signature.getReturnType());
  assert(promise, `${group}.${method} does not return a promise`);
  return promise;
}

/**
 * Every way in which `value` differs from `type`, as "path: what is wrong".
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
 * Fails unless `reply` has the shape that the SDK declares for `group.method`; hands it back.
 * @template T @param {Group} group @param {string} method @param {T} reply @returns {T}
 */
export function declaredShape(group, method, reply) {
  assert.deepEqual(differences(replyType(group, method), reply, `${group}.${method}`), []);
  return reply;
}
