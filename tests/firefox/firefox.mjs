// Debian's Firefox, driven by the Playwright that scripts/scenarios installs.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { TLS_NAME } from "../../target/scenarios/server.mjs";

const require = createRequire(new URL("../../target/scenarios/package.json", import.meta.url));
export const { chromium, firefox } = require("playwright-core");

/** The subdomains of the base domain that the SDK uses. */
const SUBDOMAINS = ["api", "socket-edge", "api-silos", "da-collector", "location", "location-legacy"];

/**
 * The address of the network namespace that scripts/in-namespace makes. Firefox gathers no ICE candidates on the
 * loopback interface, whatever its preferences say, so it could reach a server there only through the relay.
 */
export function ownAddress() {
  const { NAMESPACE_ADDRESS } = process.env;
  assert(NAMESPACE_ADDRESS, "run this with scripts/firefox, in a network namespace");
  return NAMESPACE_ADDRESS;
}

/** A proxy address on which nothing listens. */
const NOWHERE = { host: "127.0.0.1", port: 9 };

const preferences = () => ({
  "media.navigator.streams.fake": true,
  "media.navigator.permission.disabled": true,
  // Only one window at a time has the focus; the others would be denied access to devices.
  "media.devices.unfocused.enabled": true,
  "media.autoplay.default": 0,
  "media.autoplay.blocking_policy": 0,
  // Audio is not decoded without a sound card, unless it is mocked.
  "media.cubeb.force_mock_context": true,
  "network.dns.localDomains": SUBDOMAINS.map((subdomain) => `${subdomain}.${TLS_NAME}`).join(","),
  // The browser can reach only this machine, whatever the SDK or the browser itself requests.
  "network.proxy.type": 1,
  "network.proxy.http": NOWHERE.host,
  "network.proxy.http_port": NOWHERE.port,
  "network.proxy.ssl": NOWHERE.host,
  "network.proxy.ssl_port": NOWHERE.port,
  "network.proxy.no_proxies_on": `localhost, 127.0.0.1, ${ownAddress()}, .${TLS_NAME}`,
});

/**
 * Starts Firefox. The result has the methods of Playwright's Browser that `ScenarioContext` uses.
 * @param {Record<string, unknown>} [extraPreferences] as in about:config
 */
export async function startFirefox(extraPreferences = {}) {
  const browser = await firefox.launch({
    // Mozilla's builds are controlled with WebDriver BiDi; Playwright's default is a patched build.
    channel: "moz-firefox",
    executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
    firefoxUserPrefs: { ...preferences(), ...extraPreferences },
  });
  return {
    version: browser.version(),
    /** Firefox cannot trust a key by its hash, so it accepts all certificates; it can reach only this machine. */
    newContext: ({ permissions: _, ...options } = {}) => browser.newContext({ ...options, ignoreHTTPSErrors: true }),
    close: () => browser.close(),
  };
}
