// The server under test: the process of the real binary, and REST calls as an app's backend makes them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes, createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { setTimeout as sleep } from "node:timers/promises";

/** A free TCP port of the loopback interface. */
async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/** The base domain. The server has a certificate for its subdomains (`api.`, `socket-edge.`, …). */
export const TLS_NAME = "parlor.test";

/** The server's grace period for reconnecting; shorter than the default, so that scenarios can wait for its end. */
export const GRACE_SECONDS = 15;

export class ServerProcess {
  /** @param {{binary: string, database?: string}} options */
  static async start({ binary, database }) {
    const server = new ServerProcess();
    server.binary = binary;
    server.data = mkdtempSync(join(tmpdir(), "parlor-scenarios-"));
    server.log = join(server.data, "server.log");
    server.account = randomBytes(16).toString("hex");
    server.token = randomBytes(32).toString("hex");
    [server.port, server.tlsPort, server.mediaPort] = [await freePort(), await freePort(), await freePort()];
    server.arguments = [
      "serve", "--listen", `127.0.0.1:${server.port}`, "--tls-listen", `127.0.0.1:${server.tlsPort}`,
      "--metrics-listen", "off",
      "--tls-name", TLS_NAME, "--media-listen", `127.0.0.1:${server.mediaPort}`, "--data-dir", server.data,
      "--reconnect-grace-secs", String(GRACE_SECONDS), "--log-format", "json",
      ...(database ? ["--database", database] : []),
    ];
    await server.launch();
    const { app } = await server.api("POST", "/apps", { name: "Scenarios" });
    server.app = app.id;
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts the process and waits until it is ready. A restarted process has the same ports and data. */
  async launch() {
    const output = openSync(this.log, "a");
    this.process = spawn(this.binary, this.arguments, {
      stdio: ["ignore", output, output],
      env: { ...process.env, PARLOR_ACCOUNT_ID: this.account, PARLOR_API_TOKEN: this.token },
    });
    closeSync(output);
    this.exited = once(this.process, "exit");
    for (let tries = 0; tries < 300; tries += 1) {
      if (await this.isReady()) return;
      if (this.process.exitCode !== null) break;
      await sleep(100);
    }
    throw new Error(`the server did not start:\n${this.logTail(30)}`);
  }

  async isReady() {
    try {
      await fetch(`${this.url}/healthz`);
      (await this.tlsHandshake()).destroy();
      return true;
    } catch {
      return false;
    }
  }

  async tlsHandshake() {
    const socket = tls.connect({ port: this.tlsPort, host: "127.0.0.1", servername: `api.${TLS_NAME}`, rejectUnauthorized: false });
    await once(socket, "secureConnect");
    return socket;
  }

  /**
   * The hash of the public key of the server's certificate authority, for the browser to trust. The server
   * issues a certificate at each start, for every subdomain that the SDK uses.
   */
  async authorityKeyHash() {
    const authority = new X509Certificate(readFileSync(join(this.data, "tls/ca.pem")));
    const socket = await this.tlsHandshake();
    const certificate = new X509Certificate(socket.getPeerCertificate(true).raw);
    socket.destroy();
    assert(certificate.verify(authority.publicKey), "the server's certificate is not issued by its authority");
    for (const prefix of ["api", "socket-edge", "api-silos", "da-collector", "location", "location-legacy"]) {
      assert(certificate.checkHost(`${prefix}.${TLS_NAME}`), `the certificate is not valid for ${prefix}.${TLS_NAME}`);
    }
    return createHash("sha256").update(authority.publicKey.export({ type: "spki", format: "der" })).digest("base64");
  }

  /** Sends a signal and waits until the process has exited. @param {NodeJS.Signals} signal */
  async kill(signal) {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill(signal);
    const timer = setTimeout(() => this.process.kill("SIGKILL"), 40_000);
    await this.exited;
    clearTimeout(timer);
  }

  /** Stops the process and deletes its data directory. */
  async stop() {
    await this.kill("SIGTERM");
    rmSync(this.data, { recursive: true, force: true });
  }

  logTail(lines) {
    return readFileSync(this.log, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  }

  /** The log lines of errors and panics. */
  loggedErrors() {
    return readFileSync(this.log, "utf8").split("\n").filter((line) => /"level":"ERROR"|panicked at/.test(line));
  }

  /**
   * Makes a REST call as the app's backend, and returns status and body of the response.
   * @param {string} method @param {string} path below the app, or below the account for `/apps` @param {unknown} [body]
   */
  async request(method, path, body) {
    const below = path.startsWith("/apps") ? path : `/${this.app}${path}`;
    const response = await fetch(`${this.url}/client/v4/accounts/${this.account}/realtime/kit${below}`, {
      method,
      headers: {
        Authorization: `Bearer ${this.token}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : undefined };
  }

  /** Makes a REST call that must succeed, and returns `data` of the response. */
  async api(method, path, body) {
    const response = await this.request(method, path, body);
    assert(response.status < 300, `${method} ${path}: status ${response.status} ${JSON.stringify(response.body)}`);
    return response.body.data;
  }

  /** Creates a meeting. @param {object} [settings] */
  createMeeting(settings = {}) {
    return this.api("POST", "/meetings", { title: "A scenario", ...settings });
  }

  /**
   * Creates a copy of a default preset with overrides, and returns its name.
   * @param {string} base @param {{config?: object, permissions?: object}} overrides
   */
  async createPreset(base, { config = {}, permissions = {} }) {
    const listed = (await this.api("GET", "/presets?per_page=100")).find((one) => one.name === base);
    assert(listed, `there is no preset ${base}`);
    const full = await this.api("GET", `/presets/${listed.id}`);
    const name = `${base} ${randomBytes(4).toString("hex")}`;
    await this.api("POST", "/presets", {
      name, ui: full.ui, config: merge(full.config, config), permissions: merge(full.permissions, permissions),
    });
    return name;
  }

  /** Adds a participant to a meeting. The result has its id and token. */
  addParticipant(meeting, participant) {
    return this.api("POST", `/meetings/${meeting.id}/participants`, participant);
  }
}

function merge(base, overrides) {
  if (overrides === null || typeof overrides !== "object" || Array.isArray(overrides)) return overrides;
  const result = { ...base };
  for (const [key, value] of Object.entries(overrides)) result[key] = merge(base?.[key], value);
  return result;
}
