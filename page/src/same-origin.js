// The SDK connects to `https://<service>.<baseURI>` and `wss://socket-edge.<baseURI>`, with one host for
// each service, and does not support plain HTTP. Parlor serves all of them on one origin. This module redirects
// their requests to the page's origin, so the page needs no certificate and no DNS names: it works on
// http://localhost, behind any proxy, and under any host name.
//
// It must be installed before the SDK is loaded. It replaces `fetch` and `WebSocket`, the only network APIs that
// version 2.0.2 of the SDK uses.

// Never resolves (RFC 6761), so a request that bypasses this module fails.
export const BASE_URI = "parlor.invalid";

const EMOJIS = "https://rtk-assets.realtime.cloudflare.com/assets/emojis-data.json";
const UNKNOWN_LOCATION = { loc: "0.0000,0.0000" };

function serviceOf(url) {
  const suffix = `.${BASE_URI}`;
  return url.hostname.endsWith(suffix) ? url.hostname.slice(0, -suffix.length) : null;
}

/** Rewrites the URL of a service of the SDK to the page's origin. Other URLs are returned unchanged. */
export function rewriteUrl(address) {
  const url = new URL(address, location.href);
  if (serviceOf(url) === null) return String(address);
  const own = new URL(location.origin);
  if (url.protocol === "wss:") own.protocol = own.protocol === "https:" ? "wss:" : "ws:";
  own.pathname = url.pathname;
  own.search = url.search;
  return own.href;
}

/** Returns the response to a request that the page answers itself, or null. */
async function localResponse(address) {
  const url = new URL(address, location.href);
  // The SDK uses the location for statistics only, and requests it from `/`, which has another meaning on this origin.
  if (["location", "location-legacy"].includes(serviceOf(url))) return Response.json(UNKNOWN_LOCATION);
  // The UI kit would load its list of emojis from Cloudflare.
  if (url.href === EMOJIS) return Response.json((await import("./emojis.js")).emojis());
  // Illustrations of browser permissions. The text next to them is sufficient.
  if (url.hostname === new URL(EMOJIS).hostname) return new Response("", { status: 404 });
  return null;
}

/** Replaces `fetch` and `WebSocket` of the window. */
export function install(scope) {
  const fetch = scope.fetch.bind(scope);
  scope.fetch = async (input, init) => {
    const isRequest = input instanceof Request;
    const address = isRequest ? input.url : String(input);
    const response = await localResponse(address);
    if (response) return response;
    const target = rewriteUrl(address);
    return fetch(isRequest ? new Request(target, input) : target, init);
  };
  scope.WebSocket = class extends scope.WebSocket {
    constructor(address, protocols) {
      super(rewriteUrl(address), protocols);
    }
  };
}
