// Sends requests like the SDK's through the shim to a real server.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { BASE_URI, install, rewriteUrl } from "../src/same-origin.js";

let server;
const scope = { fetch: globalThis.fetch, WebSocket: class { constructor(address) { this.url = address; } } };

before(async () => {
  server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString();
    const { method, url, headers } = request;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ method, url, authorization: headers.authorization, body }));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  setOrigin(`http://127.0.0.1:${server.address().port}`);
  install(scope);
});
after(() => server.close());

function setOrigin(origin) {
  globalThis.location = new URL("/meet?video=1", origin);
}

async function fetchJson(...request) {
  const response = await scope.fetch(...request);
  return response.json();
}

test("a request to a service of the SDK arrives complete at the page's origin", async () => {
  const body = JSON.stringify({ roomUUID: "m" });
  const seen = await fetchJson(`https://api.${BASE_URI}/v2/meetings/chat-upload?a=b%20c`, {
    method: "POST",
    headers: { authorization: "Bearer eyJ" },
    body,
  });
  assert.deepEqual(seen, { method: "POST", url: "/v2/meetings/chat-upload?a=b%20c", authorization: "Bearer eyJ", body });
});

test("a Request object keeps its method, headers and body", async () => {
  const request = new Request(`https://da-collector.${BASE_URI}/api/v1/message`, {
    method: "PUT",
    headers: { authorization: "Bearer eyJ" },
    body: "x",
  });
  assert.deepEqual(await fetchJson(request), { method: "PUT", url: "/api/v1/message", authorization: "Bearer eyJ", body: "x" });
});

test("a path that starts with two slashes stays a path", () => {
  assert.equal(rewriteUrl(`https://api.${BASE_URI}//elsewhere.example/x`), `${location.origin}//elsewhere.example/x`);
});

test("requests to other hosts are not changed", async () => {
  for (const address of ["https://example.com/x?y=1", "https://parlor.invalid.example/x", "blob:null/1"]) {
    assert.equal(rewriteUrl(address), address);
  }
  assert.equal((await fetchJson(`${location.origin}/own?q=1`)).url, "/own?q=1");
});

test("the socket uses TLS if the page uses HTTPS", () => {
  const socket = `wss://socket-edge.${BASE_URI}/ws?roomID=r&capabilities=2`;
  const plain = location.origin;
  assert.equal(new scope.WebSocket(socket).url, `${plain.replace("http", "ws")}/ws?roomID=r&capabilities=2`);
  for (const origin of ["https://calls.example.com", "https://localhost:8443", "https://[::1]:8443"]) {
    setOrigin(origin);
    assert.equal(new scope.WebSocket(socket).url, `${origin.replace("http", "ws")}/ws?roomID=r&capabilities=2`);
  }
  setOrigin(plain);
});

test("the page answers location requests in the format that the SDK expects", async () => {
  for (const service of ["location", "location-legacy"]) {
    const { loc } = await fetchJson(`https://${service}.${BASE_URI}/?peerId=p`, { method: "POST" });
    assert.ok(loc.length > 5);
  }
});

test("an emoji is found by its name with the UI kit's search", async () => {
  const list = await fetchJson("https://rtk-assets.realtime.cloudflare.com/assets/emojis-data.json");
  const found = [...list.search.matchAll(/([^,]*?waving hand[^,]*):(\d+)/g)].map(([, , index]) => list.emojis[index]);
  assert.deepEqual(found, ["👋"]);
  const all = [...list.search.matchAll(/([^,]*?[^,]*):(\d+)/g)];
  assert.equal(all.length, list.emojis.length);
});

test("no other request is sent to Cloudflare", async () => {
  const picture = await scope.fetch("https://rtk-assets.realtime.cloudflare.com/ui-kit/permissions/Chrome1.svg");
  assert.equal(picture.status, 404);
  assert.equal(await picture.text(), "");
});
