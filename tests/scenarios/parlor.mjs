// The server under test: the real binary, and the REST calls that an app's backend would make.

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

/** A port of the loopback interface that nobody has now. */
async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/** The name whose prefixes (`api.`, `socket-edge.`, …) the server has a certificate for. */
export const NAME = "parlor.test";

/** A peer whose line is dead is out after so many seconds: shorter than the default, so that a scenario can wait for it. */
export const GRACE_SECONDS = 15;

export class Parlor {
  /** @param {{binary: string, database?: string}} options */
  static async start({ binary, database }) {
    const parlor = new Parlor();
    parlor.binary = binary;
    parlor.data = mkdtempSync(join(tmpdir(), "parlor-scenarios-"));
    parlor.log = join(parlor.data, "server.log");
    parlor.account = randomBytes(16).toString("hex");
    parlor.token = randomBytes(32).toString("hex");
    [parlor.port, parlor.tlsPort, parlor.mediaPort] = [await freePort(), await freePort(), await freePort()];
    parlor.arguments = [
      "serve", "--listen", `127.0.0.1:${parlor.port}`, "--tls-listen", `127.0.0.1:${parlor.tlsPort}`,
      "--metrics-listen", "off",
      "--tls-name", NAME, "--media-listen", `127.0.0.1:${parlor.mediaPort}`, "--data-dir", parlor.data,
      "--reconnect-grace-secs", String(GRACE_SECONDS), "--log-format", "json",
      ...(database ? ["--database", database] : []),
    ];
    await parlor.run();
    const { app } = await parlor.ask("POST", "/apps", { name: "Scenarios" });
    parlor.app = app.id;
    return parlor;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts the process, on the ports and data of the last time if there was one. */
  async run() {
    const output = openSync(this.log, "a");
    this.process = spawn(this.binary, this.arguments, {
      stdio: ["ignore", output, output],
      env: { ...process.env, PARLOR_ACCOUNT_ID: this.account, PARLOR_API_TOKEN: this.token },
    });
    closeSync(output);
    this.exited = once(this.process, "exit");
    for (let tries = 0; tries < 300; tries += 1) {
      if (await this.answers()) return;
      if (this.process.exitCode !== null) break;
      await sleep(100);
    }
    throw new Error(`the server did not start:\n${this.lastWords(30)}`);
  }

  async answers() {
    try {
      await fetch(`${this.url}/healthz`);
      (await this.handshake()).destroy();
      return true;
    } catch {
      return false;
    }
  }

  async handshake() {
    const socket = tls.connect({ port: this.tlsPort, host: "127.0.0.1", servername: `api.${NAME}`, rejectUnauthorized: false });
    await once(socket, "secureConnect");
    return socket;
  }

  /**
   * What a browser is told to trust: the hash of the key of the server's authority. The server makes
   * a certificate at each start, for every name that the SDK makes of the base.
   */
  async authorityHash() {
    const authority = new X509Certificate(readFileSync(join(this.data, "tls/ca.pem")));
    const socket = await this.handshake();
    const certificate = new X509Certificate(socket.getPeerCertificate(true).raw);
    socket.destroy();
    assert(certificate.verify(authority.publicKey), "the server's certificate is not from its authority");
    for (const prefix of ["api", "socket-edge", "api-silos", "da-collector", "location", "location-legacy"]) {
      assert(certificate.checkHost(`${prefix}.${NAME}`), `the certificate is not for ${prefix}.${NAME}`);
    }
    return createHash("sha256").update(authority.publicKey.export({ type: "spki", format: "der" })).digest("base64");
  }

  /** Ends the process by a signal and waits for its end. @param {NodeJS.Signals} signal */
  async end(signal) {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill(signal);
    const slow = setTimeout(() => this.process.kill("SIGKILL"), 40_000);
    await this.exited;
    clearTimeout(slow);
  }

  /** Stops for good and removes what it wrote. */
  async stop() {
    await this.end("SIGTERM");
    rmSync(this.data, { recursive: true, force: true });
  }

  lastWords(lines) {
    return readFileSync(this.log, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  }

  /** Everything the server has logged as an error or died of. */
  complaints() {
    return readFileSync(this.log, "utf8").split("\n").filter((line) => /"level":"ERROR"|panicked at/.test(line));
  }

  /**
   * One REST call as the app's backend; the whole answer.
   * @param {string} method @param {string} path below the app, or below the account for `/apps` @param {unknown} [body]
   */
  async call(method, path, body) {
    const below = path.startsWith("/apps") ? path : `/${this.app}${path}`;
    const answer = await fetch(`${this.url}/client/v4/accounts/${this.account}/realtime/kit${below}`, {
      method,
      headers: {
        Authorization: `Bearer ${this.token}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    return { status: answer.status, body: text ? JSON.parse(text) : undefined };
  }

  /** The same for calls that must succeed; `data` of the answer, with `paging` when there is one. */
  async ask(method, path, body) {
    const answer = await this.call(method, path, body);
    assert(answer.status < 300, `${method} ${path} answered ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body.data;
  }

  /** A new meeting. @param {object} [settings] */
  meeting(settings = {}) {
    return this.ask("POST", "/meetings", { title: "A scenario", ...settings });
  }

  /** A new preset like a stock one, with some things different. @param {string} like @param {{config?: object, permissions?: object}} different */
  async preset(like, { config = {}, permissions = {} }) {
    const stock = (await this.ask("GET", "/presets?per_page=100")).find((one) => one.name === like);
    assert(stock, `there is no preset ${like}`);
    const whole = await this.ask("GET", `/presets/${stock.id}`);
    const name = `${like} ${randomBytes(4).toString("hex")}`;
    await this.ask("POST", "/presets", {
      name, ui: whole.ui, config: merged(whole.config, config), permissions: merged(whole.permissions, permissions),
    });
    return name;
  }

  /** Adds somebody to a meeting: id, token, and what was asked for. */
  add(meeting, person) {
    return this.ask("POST", `/meetings/${meeting.id}/participants`, person);
  }
}

function merged(whole, part) {
  if (part === null || typeof part !== "object" || Array.isArray(part)) return part;
  const result = { ...whole };
  for (const [key, value] of Object.entries(part)) result[key] = merged(whole?.[key], value);
  return result;
}
