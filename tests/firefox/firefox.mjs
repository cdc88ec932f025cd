// Debian's Firefox, driven by the Playwright that scripts/scenarios installs.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { networkInterfaces } from "node:os";
import { NAME } from "../../target/scenarios/parlor.mjs";

const require = createRequire(new URL("../../target/scenarios/package.json", import.meta.url));
export const { chromium, firefox } = require("playwright-core");

/** The prefixes of the base that the SDK makes names of. */
const PREFIXES = ["api", "socket-edge", "api-silos", "da-collector", "location", "location-legacy"];

/**
 * An address of this machine that others know. Firefox has no candidate of the loopback interface, whatever
 * its settings say, so that towards a server there it would know no way but the relay's.
 */
export function ownAddress() {
  const all = Object.values(networkInterfaces()).flat();
  const own = all.find(({ family, internal }) => family === "IPv4" && !internal);
  assert(own, "this machine has no IPv4 address but the loopback's");
  return own.address;
}

/** Nobody listens there. */
const NOWHERE = { host: "127.0.0.1", port: 9 };

const preferences = () => ({
  "media.navigator.streams.fake": true,
  "media.navigator.permission.disabled": true,
  // Only one window at a time has the focus, and devices are kept from the others.
  "media.devices.unfocused.enabled": true,
  "media.autoplay.default": 0,
  "media.autoplay.blocking_policy": 0,
  // Without a sound card no sound is made either, but for a pretended card.
  "media.cubeb.force_mock_context": true,
  "network.dns.localDomains": PREFIXES.map((prefix) => `${prefix}.${NAME}`).join(","),
  // Nothing but this machine can be reached, whatever the SDK or the browser asks for.
  "network.proxy.type": 1,
  "network.proxy.http": NOWHERE.host,
  "network.proxy.http_port": NOWHERE.port,
  "network.proxy.ssl": NOWHERE.host,
  "network.proxy.ssl_port": NOWHERE.port,
  "network.proxy.no_proxies_on": `localhost, 127.0.0.1, ${ownAddress()}, .${NAME}`,
});

/**
 * Starts it. What comes back opens contexts as Chromium does, for `World`.
 * @param {Record<string, unknown>} [more] preferences, as in about:config
 */
export async function startFirefox(more = {}) {
  const browser = await firefox.launch({
    // Firefox as Mozilla builds it speaks WebDriver BiDi; Playwright's own is a build of its own.
    channel: "moz-firefox",
    executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
    firefoxUserPrefs: { ...preferences(), ...more },
  });
  return {
    version: browser.version(),
    /** It knows no hash of a key to trust, so it trusts whoever answers: that is nobody but this machine. */
    newContext: ({ permissions: _, ...options } = {}) => browser.newContext({ ...options, ignoreHTTPSErrors: true }),
    close: () => browser.close(),
  };
}
