// The API reference: reads /openapi.json, shows one operation at a time, and lets one try it.
// Everything is put on the page as text nodes, so nothing in the document can become markup.

const A_PREFIX = "/client/v4/accounts/{account_id}/realtime/kit";
const METHODS = ["get", "post", "put", "patch", "delete"];
const STATUS_TEXT = {
  200: "OK", 201: "Created", 204: "No content", 400: "Bad request", 401: "Not authenticated",
  403: "Not permitted", 404: "Not found", 408: "Timed out", 409: "Conflict", 413: "Too large",
  415: "Not JSON", 422: "Unprocessable", 429: "Too many requests", 500: "Server error",
  501: "Planned", 503: "Unavailable",
};

const $ = (id) => document.getElementById(id);
const kept = {
  get: (name) => sessionStorage.getItem(`parlor.${name}`) ?? "",
  set: (name, value) => (value ? sessionStorage.setItem(`parlor.${name}`, value) : sessionStorage.removeItem(`parlor.${name}`)),
  forget: () => Object.keys(sessionStorage).filter((k) => k.startsWith("parlor.")).forEach((k) => sessionStorage.removeItem(k)),
};

/** An element: `h("a.b.c", {href}, child, [children], "text")`. */
function h(tag, ...rest) {
  const [name, ...classes] = tag.split(".");
  const el = document.createElement(name);
  if (classes.length) el.className = classes.join(" ");
  for (const part of rest.flat(4)) {
    if (part === null || part === undefined || part === false) continue;
    if (part instanceof Node || typeof part !== "object") el.append(part);
    else for (const [key, value] of Object.entries(part)) {
      if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
      else if (value !== false && value !== undefined) el.setAttribute(key, value === true ? "" : value);
    }
  }
  return el;
}

// ---- Prose: the little Markdown that doc comments use --------------------------------------

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/).map((part) => {
    if (part.startsWith("`")) return h("code", part.slice(1, -1));
    if (part.startsWith("**")) return h("strong", part.slice(2, -2));
    const link = /^\[([^\]]+)\]\(((?:https?:\/\/|\/|#)[^)\s]*)\)$/.exec(part);
    return link ? h("a", { href: link[2] }, link[1]) : part;
  });
}

function prose(text) {
  return (text ?? "").trim().split(/\n\s*\n/).filter(Boolean).map((block) => {
    if (block.startsWith("```")) return h("pre", block.replace(/^```.*\n?|\n?```\s*$/g, ""));
    const heading = /^#+\s+(.*)$/s.exec(block);
    if (heading) return h("h3", inline(heading[1]));
    if (/^[-*] /.test(block)) return h("ul", block.split(/\n(?=[-*] )/).map((item) => h("li", inline(item.slice(2)))));
    return h("p", inline(block.replace(/\n/g, " ")));
  });
}

// ---- Schemas -------------------------------------------------------------------------------

let api;

/** Follows `$ref`, folds `allOf` and a nullable `anyOf` into one schema; keeps the outer words. */
function resolve(schema, depth = 0) {
  if (schema === true || !schema || depth > 20) return {};
  const { $ref, allOf, ...own } = schema;
  let flat = own;
  if ($ref) {
    const target = $ref.slice(2).split("/").reduce((at, key) => at?.[key.replace(/~1/g, "/").replace(/~0/g, "~")], api);
    flat = { title: $ref.split("/").pop(), ...resolve(target, depth + 1), ...own };
  }
  for (const part of allOf ?? []) {
    const more = resolve(part, depth + 1);
    flat = {
      ...more, ...flat,
      properties: { ...more.properties, ...flat.properties },
      required: [...(more.required ?? []), ...(flat.required ?? [])],
    };
  }
  const choices = flat.anyOf ?? flat.oneOf;
  const real = choices?.filter((c) => c.type !== "null");
  if (choices && real.length === 1) {
    const { anyOf, oneOf, ...outer } = flat;
    flat = { ...resolve(real[0], depth + 1), ...outer, nullable: real.length < choices.length };
  }
  if (Array.isArray(flat.type)) {
    const types = flat.type.filter((t) => t !== "null");
    flat = { ...flat, type: types.length === 1 ? types[0] : types, nullable: flat.nullable || types.length < flat.type.length };
  }
  return flat;
}

function variants(schema) {
  if (schema.enum) return schema.enum.filter((v) => v !== null);
  if (schema.const !== undefined) return [schema.const];
  const each = (schema.oneOf ?? schema.anyOf ?? []).map((s) => resolve(s));
  return each.length && each.every((s) => s.const !== undefined || s.enum) ? each.flatMap(variants) : [];
}

function typeName(schema) {
  const s = resolve(schema);
  const orNull = s.nullable ? " or null" : "";
  if (s.type === "array") return `list of ${typeName(s.items)}${orNull}`;
  if (s.const !== undefined) return "always";
  if (variants(s).length) return `one of${orNull ? " (or null)" : ""}`;
  if (s.oneOf || s.anyOf) return [...new Set((s.oneOf ?? s.anyOf).map(typeName))].join(" or ") + orNull;
  if (s.properties || s.type === "object") return `object${orNull}`;
  const format = s.format && !/^u?int|float|double/.test(s.format) ? ` · ${s.format}` : "";
  return `${[].concat(s.type ?? "any").join(" or ")}${format}${orNull}`;
}

function limits(schema) {
  const s = resolve(schema);
  const span = (low, high, unit) => {
    if (low === undefined && high === undefined) return null;
    if (low === high) return `exactly ${low}${unit}`;
    if (low === undefined) return `at most ${high}${unit}`;
    if (high === undefined) return low === 0 && !unit ? "not negative" : `at least ${low}${unit}`;
    return `${low}–${high}${unit}`;
  };
  return [
    span(s.minLength, s.maxLength, " characters"),
    span(s.minimum ?? s.exclusiveMinimum, s.maximum ?? s.exclusiveMaximum, ""),
    span(s.minItems, s.maxItems, " items"),
    s.pattern && ["matches ", h("code", s.pattern)],
    s.default !== undefined && s.default !== null && !nested(s) && ["default ", h("code", JSON.stringify(s.default))],
    s.deprecated && "deprecated", s.readOnly && "read only", s.writeOnly && "write only",
  ].filter(Boolean);
}

/** The object whose fields stand behind this schema, seen through lists and maps. */
function nested(schema) {
  const s = resolve(schema);
  if (s.type === "array") return nested(s.items);
  if (s.properties && Object.keys(s.properties).length) return s;
  return s.additionalProperties && typeof s.additionalProperties === "object" ? nested(s.additionalProperties) : null;
}

function field(name, schema, required, open = false) {
  const s = resolve(schema);
  const inner = nested(schema);
  const choices = variants(s.type === "array" ? resolve(s.items) : s);
  return h("li.field",
    h("div.field-head", h("code.name", name), h("span.type", typeName(schema)), h(required ? "span.required" : "span.optional", required ? "required" : "may be absent")),
    h("div.words", prose(s.description)),
    choices.length > 0 && h("p.choices", choices.map((c) => h("code", JSON.stringify(c)))),
    limits(schema).length > 0 && h("p.limits", limits(schema).map((l) => h("span", l))),
    inner && lazyDetails(`Fields of ${name}`, () => fields(inner), open));
}

/** The properties of an object as [name, schema, required], the required ones first. */
function properties(s) {
  const must = new Set(s.required ?? []);
  const all = Object.entries(s.properties ?? {}).map(([name, sub]) => [name, sub, must.has(name)]);
  return [...all.filter((p) => p[2]), ...all.filter((p) => !p[2])];
}

/** The fields of an object; `opened` names the one whose own fields are shown at once. */
function fields(schema, opened) {
  return h("ul.fields", properties(nested(schema) ?? {}).map(([name, sub, must]) => field(name, sub, must, name === opened)));
}

/** Fills itself when first opened: recursive schemas stay finite and the page small. */
function lazyDetails(label, fill, open = false) {
  const box = h("details", h("summary", label));
  const show = () => { if (box.open && box.childElementCount === 1) box.append(fill()); };
  box.addEventListener("toggle", show);
  box.open = open;
  show();
  return box;
}

/** What the schema itself offers as a value: an example or a default. */
function offered(schema) {
  const s = resolve(schema);
  return s.example ?? s.examples?.[0] ?? s.default ?? undefined;
}

/** A body one can send: what is required and, unless it is a partial change, what has an example or a default. */
function exampleObject(s, depth, partial) {
  const all = properties(s);
  let shown = all.filter(([, sub, must]) => must || (!partial && offered(sub) !== undefined));
  if (!shown.length) shown = all.filter(([, sub]) => resolve(sub).type === "string");
  return Object.fromEntries(shown.map(([name, sub]) => [name, example(sub, depth + 1)]));
}

function example(schema, depth = 0, partial = false) {
  const s = resolve(schema);
  if (offered(s) !== undefined) return offered(s);
  const [choice] = variants(s);
  if (choice !== undefined) return choice;
  if (s.oneOf || s.anyOf) return example((s.oneOf ?? s.anyOf)[0], depth + 1);
  if (s.type === "array") return depth > 5 ? [] : [example(s.items, depth + 1)];
  if (s.properties || s.type === "object") return depth > 8 ? {} : exampleObject(s, depth, partial);
  if (s.type === "boolean") return false;
  if (s.type === "integer" || s.type === "number") return s.minimum ?? 1;
  if (s.type !== "string") return null;
  return { uri: "https://example.com/", "date-time": "2030-01-01T00:00:00.000Z", uuid: "00000000-0000-7000-8000-000000000000" }[s.format] ?? "string";
}

// ---- Operations ----------------------------------------------------------------------------

let entries = [];
/** Bodies typed in this page, by operation, so that looking elsewhere does not lose them. */
const drafts = new Map();

/** One entry for both surfaces: the same operation under its Cloudflare path and its /v2 path. */
function readOperations() {
  const byKey = new Map();
  for (const [path, item] of Object.entries(api.paths ?? {})) {
    for (const method of METHODS.filter((m) => item[m])) {
      const surface = path.startsWith("/v2/") ? "b" : "a";
      const short = path.replace("/v2", "").replace(`${A_PREFIX}/{app_id}/`, "/").replace(A_PREFIX, "");
      const key = `${method} ${surface === "a" && !path.startsWith(A_PREFIX) ? path : short}`;
      const entry = byKey.get(key) ?? { key, method, short };
      const op = { ...item[method], path, parameters: [...(item.parameters ?? []), ...(item[method].parameters ?? [])].map(resolve) };
      byKey.set(key, Object.assign(entry, { [surface]: op }));
    }
  }
  entries = [...byKey.values()].map((entry) => {
    const op = entry.a ?? entry.b;
    const slug = entry.key.replace(/[{}]/g, "").replace(/[^a-z0-9]+/gi, "-").replace(/-$/, "");
    return { ...entry, slug, title: title(op.summary ?? entry.short), tag: op.tags?.[0] ?? "Other", planned: op["x-parlor-status"] === "planned" };
  });
  const order = tagsInOrder();
  entries.sort((one, other) => order.indexOf(one.tag) - order.indexOf(other.tag));
}

/** A summary as words: `listSessions` reads "List sessions". */
function title(summary) {
  if (/\s/.test(summary)) return summary;
  const words = summary.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`).trim();
  return words[0].toUpperCase() + words.slice(1);
}

const surface = () => document.querySelector("input[name=surface]:checked").value;
const chosen = (entry) => entry[surface()] ?? entry.a ?? entry.b;
const badge = (method) => h(`span.method.${method}`, method === "delete" ? "DEL" : method.toUpperCase());

function tagsInOrder() {
  const named = (api.tags ?? []).map((t) => t.name);
  return [...new Set([...named, ...entries.map((e) => e.tag)])].filter((tag) => entries.some((e) => e.tag === tag));
}

function showIndex() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const hit = (e) => words.every((w) => `${e.key} ${e.title} ${e.tag} ${chosen(e).operationId ?? ""}`.toLowerCase().includes(w));
  const here = location.hash.slice(2);
  const groups = tagsInOrder().map((tag) => [tag, entries.filter((e) => e.tag === tag && hit(e))]).filter(([, list]) => list.length);
  $("index").replaceChildren(...groups.map(([tag, list]) => h("section", h("h2", tag), h("ul", list.map((e) =>
    h("li", h(`a${e.planned ? ".planned" : ""}`, { href: `#/${e.slug}`, "aria-current": e.slug === here && "page" },
      badge(e.method), h("span", e.title), e.planned && h("span.soon", "planned"))))))));
  const count = groups.reduce((sum, [, list]) => sum + list.length, 0);
  $("found").textContent = words.length ? `${count} operations found` : "";
  if (!count) $("index").append(h("p.muted", "Nothing matches."));
}

function pathLine(path) {
  const cut = path.startsWith(`${A_PREFIX}/`) ? A_PREFIX.length : path.startsWith("/v2/") ? 3 : 0;
  const breakable = (text) => text.split(/(?=\/)/).flatMap((step) => [h("wbr"), step]);
  const tail = path.slice(cut).split(/(\{[^}]+\})/).map((p) => (p.startsWith("{") ? h("span.var", p) : breakable(p)));
  return h("code.path", h("span.prefix", breakable(path.slice(0, cut))), tail);
}

function parameters(op, place, title) {
  const list = op.parameters.filter((p) => p.in === place);
  if (!list.length) return null;
  return h("section", h("h2", title), h("ul.fields", list.map((p) =>
    field(p.name, { ...resolve(p.schema ?? {}), description: p.description ?? resolve(p.schema ?? {}).description }, p.required))));
}

const jsonBody = (holder) => {
  const found = Object.entries(resolve(holder)?.content ?? {}).find(([type]) => /json/.test(type));
  return found?.[1];
};

function responses(op) {
  return h("section.replies", h("h2", "Responses"), Object.entries(op.responses ?? {}).map(([status, raw]) => {
    const reply = resolve(raw);
    const schema = jsonBody(reply)?.schema;
    const label = [h(`span.status.s${status[0]}`, status), " ", inline(reply.description || STATUS_TEXT[status] || "")];
    if (!schema || !nested(schema)) return h("p.response", label);
    return lazyDetails(label, () => fields(schema, "data"), status.startsWith("2"));
  }));
}

const SCHEMES = {
  bearer: "Bearer token", basic: "Basic, app id and API token", none: "no credentials",
};

/** How a request to this operation is signed here: the first scheme it accepts that we can write. */
function authOf(op) {
  const asked = op.security ?? api.security ?? [];
  const names = asked.flatMap((s) => Object.keys(s));
  const kinds = names.map((n) => api.components?.securitySchemes?.[n]?.scheme?.toLowerCase());
  return kinds.find((k) => k === "bearer" || k === "basic") ?? "none";
}

// ---- Try it --------------------------------------------------------------------------------

function request(op, method, form, body) {
  const value = (p) => form.elements[`${p.in}:${p.name}`]?.value.trim() ?? "";
  let path = op.path;
  const query = new URLSearchParams();
  const headers = {};
  for (const p of op.parameters) {
    const typed = value(p);
    if (p.in === "path") path = path.replace(`{${p.name}}`, typed ? encodeURIComponent(typed) : `{${p.name}}`);
    else if (typed && p.in === "query") query.append(p.name, typed);
    else if (typed && p.in === "header") headers[p.name] = typed;
  }
  if (body) headers["Content-Type"] = "application/json";
  const search = query.size ? `?${query}` : "";
  return { method: method.toUpperCase(), url: location.origin + path + search, headers, body: body?.value || undefined, auth: authOf(op) };
}

const shell = (text) => `'${text.replace(/'/g, `'\\''`)}'`;

/** The curl line; with no secret given it names a shell variable, so that it can be shown. */
function curl(req, token) {
  const secret = token || "$PARLOR_API_TOKEN";
  const quoted = (text) => (token ? shell(text) : `"${text}"`);
  const lines = [`curl ${req.method === "GET" ? "" : `-X ${req.method} `}${shell(req.url)}`];
  if (req.auth === "bearer") lines.push(`-H ${quoted(`Authorization: Bearer ${secret}`)}`);
  if (req.auth === "basic") lines.push(`-u ${quoted(`${kept.get("app_id") || "$PARLOR_APP_ID"}:${secret}`)}`);
  for (const [name, value] of Object.entries(req.headers)) lines.push(`-H ${shell(`${name}: ${value}`)}`);
  if (req.body) lines.push(`--data ${shell(req.body)}`);
  return lines.join(" \\\n  ");
}

function authorization(req) {
  const token = kept.get("token");
  if (!token || req.auth === "none") return {};
  const basic = () => btoa(String.fromCharCode(...new TextEncoder().encode(`${kept.get("app_id")}:${token}`)));
  return { Authorization: req.auth === "basic" ? `Basic ${basic()}` : `Bearer ${token}` };
}

/** Ids that a reply brings are put into the next calls: a made meeting becomes `meeting_id`. */
function keepIds(entry, reply) {
  const made = /\/(app|meeting|participant|preset|webhook)s$/.exec(entry.short)?.[1];
  const id = entry.method === "post" && (reply?.data?.[made]?.id ?? reply?.data?.id);
  if (!made || typeof id !== "string") return null;
  kept.set(`${made}_id`, id);
  return h("p.muted", "Kept as ", h("code", `${made}_id`), " for the next calls.");
}

function colour(json) {
  return json.split(/("(?:[^"\\]|\\.)*"\s*:?|\b(?:true|false|null)\b|-?\b\d[\d.eE+-]*)/).map((part, i) => {
    if (i % 2 === 0) return part;
    const kind = part.startsWith('"') ? (part.endsWith(":") ? "key" : "text") : "plain";
    return h(`span.j-${kind}`, part);
  });
}

async function send(entry, req, out) {
  const started = performance.now();
  out.replaceChildren(h("p.muted", "Sending…"));
  try {
    const reply = await fetch(req.url, {
      method: req.method, headers: { ...req.headers, ...authorization(req) }, body: req.body, credentials: "omit", cache: "no-store",
    });
    const text = await reply.text();
    const took = Math.round(performance.now() - started);
    let json;
    try { json = JSON.parse(text); } catch { json = undefined; }
    const pretty = json === undefined ? text : colour(JSON.stringify(json, null, 2));
    out.replaceChildren(
      h("p.outcome", h(`span.status.s${String(reply.status)[0]}`, String(reply.status)), ` ${STATUS_TEXT[reply.status] ?? reply.statusText}`,
        h("span.muted", ` · ${took} ms · ${new TextEncoder().encode(text).length} bytes`)),
      text ? h("pre", { tabindex: "0", "aria-label": "Response body" }, pretty) : h("p.muted", "No body."),
      h("details", h("summary", "Response headers"), h("pre", [...reply.headers].map(([k, v]) => `${k}: ${v}`).join("\n"))));
    const note = reply.ok && keepIds(entry, json);
    if (note) out.querySelector(".outcome").after(note);
  } catch (failure) {
    out.replaceChildren(h("p.problem", `No answer: ${failure.message}`));
  }
  out.parentElement.scrollTop = out.offsetTop;
  out.firstElementChild.scrollIntoView({ block: "nearest" });
}

function input(p) {
  const s = resolve(p.schema ?? {});
  const id = `in-${p.in}-${p.name}`;
  const common = { id, name: `${p.in}:${p.name}`, autocomplete: "off", spellcheck: "false" };
  const choices = variants(s.type === "array" ? resolve(s.items) : s);
  const remembered = p.in === "path" ? kept.get(p.name) : "";
  const control = choices.length && p.in !== "path"
    ? h("select", common, h("option", { value: "" }, "–"), choices.map((c) => h("option", String(c))))
    : h("input", common, { value: remembered, placeholder: s.default != null ? String(s.default) : p.required ? "required" : "" });
  return h("div.row", h("label", { for: id }, p.name), control);
}

function tryIt(entry, op) {
  const content = op.requestBody && jsonBody(op.requestBody);
  const first = content && JSON.stringify(content.example ?? Object.values(content.examples ?? {})[0]?.value ?? example(content.schema, 0, entry.method === "patch"), null, 2);
  const body = content && h("textarea", { id: "body", rows: Math.min(18, first.split("\n").length + 1), spellcheck: "false", "aria-describedby": "body-note" });
  if (body) body.value = drafts.get(entry.slug) ?? first;
  const note = h("p.problem", { id: "body-note", role: "status" });
  const code = h("pre.curl", { tabindex: "0", "aria-label": "curl command" });
  const out = h("div.reply", { "aria-live": "polite" });
  const shown = op.parameters.filter((p) => p.in !== "cookie");
  const form = h("form", { class: "try", "aria-label": "Try it" },
    shown.map(input), body && h("div.row.tall", h("label", { for: "body" }, "Body"), body, note),
    h("p.actions", h("span.muted", SCHEMES[authOf(op)]), h("button.solid", { type: "submit", title: "Ctrl Enter" }, "Send")));
  const now = () => request(op, entry.method, form, body);
  const refresh = () => {
    code.textContent = curl(now());
    note.textContent = "";
    if (body?.value) try { JSON.parse(body.value); } catch (e) { note.textContent = `Not valid JSON: ${e.message}`; }
  };
  form.addEventListener("input", ({ target }) => {
    if (target.name?.startsWith("path:")) kept.set(target.name.slice(5), target.value.trim());
    if (target === body) drafts.set(entry.slug, body.value);
    refresh();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); send(entry, now(), out); });
  form.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });
  refresh();
  return h("aside.panel", { "aria-label": "Example and trial" },
    h("div.panel-head", h("h2", "curl"), copyButton(() => curl(now(), kept.get("token")))), code, h("h2", "Try it"), form, out);
}

function copyButton(text) {
  const button = h("button.quiet", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text()).then(() => { button.textContent = "Copied"; }, () => { button.textContent = "Not allowed"; });
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}

// ---- Pages ---------------------------------------------------------------------------------

function operationPage(entry) {
  const op = chosen(entry);
  const only = !entry[surface()] && (op.path.startsWith(A_PREFIX) || entry.b);
  const bodySchema = op.requestBody && jsonBody(op.requestBody)?.schema;
  const at = entries.indexOf(entry);
  const step = (e, word) => e && h("a", { href: `#/${e.slug}` }, h("span.muted", word), e.title);
  return h("article.operation",
    h("div.doc",
      h("p.crumb", entry.tag), h("h1", entry.title),
      h("p.endpoint", badge(entry.method), pathLine(op.path)),
      only && h("p.notice", `This operation exists on the ${entry.a ? "Cloudflare" : "/v2"} paths only.`),
      entry.planned && h("p.notice", "Planned: not in this version yet."),
      h("div.words", prose(op.description)),
      parameters(op, "path", "Path"), parameters(op, "query", "Query"), parameters(op, "header", "Headers"),
      bodySchema && h("section", h("h2", "Body"), fields(bodySchema)),
      responses(op),
      h("nav.steps", { "aria-label": "Neighbouring operations" }, step(entries[at - 1], "Previous"), step(entries[at + 1], "Next"))),
    tryIt(entry, op));
}

function homePage() {
  const about = (tag) => (api.tags ?? []).find((t) => t.name === tag)?.description;
  const schemes = Object.entries(api.components?.securitySchemes ?? {});
  return h("article.home",
    h("h1", api.info.title), h("p.muted", `Version ${api.info.version} · `, h("a", { href: "/openapi.json" }, "openapi.json")),
    h("div.words", prose(api.info.description)),
    schemes.length > 0 && h("section", h("h2", "Credentials"), h("ul.fields", schemes.map(([name, s]) =>
      h("li.field", h("div.field-head", h("code.name", s.name ?? `Authorization: ${title(s.scheme ?? name)}`)), h("div.words", prose(s.description)))))),
    tagsInOrder().map((tag) => h("section", h("h2", tag), prose(about(tag)), h("ul.toc", entries.filter((e) => e.tag === tag).map((e) =>
      h("li", h("a", { href: `#/${e.slug}` }, badge(e.method), h("span", e.title)), pathLine(chosen(e).path), e.planned && h("span.soon", "planned")))))));
}

function show(focus) {
  const entry = entries.find((e) => e.slug === location.hash.slice(2));
  $("main").replaceChildren(entry ? operationPage(entry) : homePage());
  document.title = entry ? `${entry.title} · ${api.info.title}` : api.info.title;
  showIndex();
  openMenu(false);
  if (focus) { scrollTo(0, 0); $("main").focus({ preventScroll: true }); }
  document.querySelector("#index [aria-current]")?.scrollIntoView({ block: "nearest" });
}

function openMenu(open) {
  $("menu").setAttribute("aria-expanded", String(open));
  document.body.classList.toggle("menu-open", open);
}

function showCredentialState() {
  $("credentials-state").textContent = kept.get("token") ? "Credentials set" : "Credentials";
}

function wireCredentials() {
  const dialog = $("credentials");
  const inputs = [...dialog.querySelectorAll("input")];
  $("credentials-open").addEventListener("click", () => {
    for (const field of inputs) field.value = kept.get(field.name);
    dialog.showModal();
  });
  $("credentials-forget").addEventListener("click", () => { kept.forget(); for (const field of inputs) field.value = ""; });
  dialog.addEventListener("input", ({ target }) => kept.set(target.name, target.value.trim()));
  dialog.addEventListener("close", () => { showCredentialState(); show(false); });
  dialog.addEventListener("click", ({ target }) => { if (target === dialog) dialog.close(); });
}

function wire() {
  wireCredentials();
  $("surface").addEventListener("change", () => { kept.set("surface", surface()); show(false); });
  $("search").addEventListener("input", showIndex);
  $("menu").addEventListener("click", () => openMenu($("menu").getAttribute("aria-expanded") !== "true"));
  addEventListener("hashchange", () => { if (location.hash.startsWith("#/") || !location.hash) show(true); });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    if (matchMedia("(max-width: 800px)").matches) openMenu(true);
    $("search").focus();
  });
  const remembered = document.querySelector(`input[name=surface][value="${kept.get("surface") === "b" ? "b" : "a"}"]`);
  remembered.checked = true;
  showCredentialState();
}

async function start() {
  try {
    const reply = await fetch("/openapi.json");
    if (!reply.ok) throw new Error(`/openapi.json answered ${reply.status}`);
    api = await reply.json();
  } catch (failure) {
    $("main").replaceChildren(h("p.problem", `The API description could not be read: ${failure.message}`));
    return;
  }
  readOperations();
  wire();
  show(false);
}

start();
