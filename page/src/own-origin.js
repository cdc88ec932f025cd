// The SDK asks `https://<service>.<baseURI>` and `wss://socket-edge.<baseURI>`, one host for each
// service, and speaks no plain HTTP. Parlor serves all of them on one origin. This sends what
// is meant for them to the origin of the page, so that the page needs neither a certificate nor
// names in the DNS: it works on http://localhost, behind any proxy, and under any name.
//
// It must be in place before the SDK is loaded. It replaces what version 2.0.2 of the SDK uses,
// which is `fetch` and `WebSocket`.

// Never resolves (RFC 6761): a request that gets past this file goes nowhere.
export const BASE_URI = "parlor.invalid";

const EMOJIS = "https://rtk-assets.realtime.cloudflare.com/assets/emojis-data.json";
const NOWHERE = { loc: "0.0000,0.0000" };

function serviceOf(url) {
  const suffix = `.${BASE_URI}`;
  return url.hostname.endsWith(suffix) ? url.hostname.slice(0, -suffix.length) : null;
}

/** Where a request goes really, as text: the page's origin for a service of the SDK, else `address`. */
export function actual(address) {
  const url = new URL(address, location.href);
  if (serviceOf(url) === null) return String(address);
  const own = new URL(location.origin);
  if (url.protocol === "wss:") own.protocol = own.protocol === "https:" ? "wss:" : "ws:";
  own.pathname = url.pathname;
  own.search = url.search;
  return own.href;
}

/** What the page answers itself, or null. */
async function answered(address) {
  const url = new URL(address, location.href);
  // Where somebody is concerns statistics only, and `/` of the page's origin is another thing.
  if (["location", "location-legacy"].includes(serviceOf(url))) return Response.json(NOWHERE);
  // The UI kit would get its list of emojis from Cloudflare.
  if (url.href === EMOJIS) return Response.json((await import("./emojis.js")).emojis());
  // Pictures that explain a browser's permissions. The text beside them does too.
  if (url.hostname === new URL(EMOJIS).hostname) return new Response("", { status: 404 });
  return null;
}

/** Replaces `fetch` and `WebSocket` of `scope`, which is the window. */
export function install(scope) {
  const fetch = scope.fetch.bind(scope);
  scope.fetch = async (input, init) => {
    const isRequest = input instanceof Request;
    const address = isRequest ? input.url : String(input);
    const answer = await answered(address);
    if (answer) return answer;
    const target = actual(address);
    return fetch(isRequest ? new Request(target, input) : target, init);
  };
  scope.WebSocket = class extends scope.WebSocket {
    constructor(address, protocols) {
      super(actual(address), protocols);
    }
  };
}
