// Proxies between a participant's browser and the server that emulate a failing network: one for TCP
// connections, one for UDP datagrams.

import dgram from "node:dgram";
import { once } from "node:events";
import net from "node:net";

/** Relays TCP connections to the server, and can cut or stall them. */
export class TcpProxy {
  /** Listens on a port of its own and connects to `port` of the loopback interface. @param {number} port */
  static async start(port) {
    const proxy = new TcpProxy();
    proxy.connections = new Set();
    proxy.isCut = false;
    proxy.server = net.createServer((client) => {
      if (proxy.isCut) {
        client.resetAndDestroy();
        return;
      }
      if (proxy.isStalled) {
        // If it were relayed, cut() would interrupt the SDK's first messages, from which the SDK does not recover.
        proxy.connections.add([client.pause()]);
        client.on("error", () => {});
        return;
      }
      const upstream = net.connect(port, "127.0.0.1");
      const sockets = [client, upstream];
      proxy.connections.add(sockets);
      for (const socket of sockets) {
        socket.setNoDelay(true);
        socket.on("error", () => {});
        socket.on("close", () => {
          proxy.connections.delete(sockets);
          // A stalled network does not deliver the end of a connection either.
          if (!proxy.isStalled) sockets.forEach((other) => other.destroy());
        });
      }
      client.pipe(upstream);
      upstream.pipe(client);
    });
    proxy.server.listen(0, "127.0.0.1");
    await once(proxy.server, "listening");
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  /** Resets all connections at both ends, and every new one until {@link restore} is called. */
  cut() {
    this.isCut = true;
    this.isStalled = false;
    for (const sockets of this.connections) sockets.forEach((socket) => socket.resetAndDestroy());
    this.connections.clear();
  }

  restore() {
    this.isCut = false;
    this.isStalled = false;
  }

  /** Stops relaying data in both directions. Connections, including new ones, stay open until {@link cut} is called. */
  stall() {
    this.isStalled = true;
    for (const [client, upstream] of this.connections) {
      client.unpipe(upstream);
      upstream.unpipe(client);
      client.pause();
      upstream.pause();
    }
  }

  close() {
    this.cut();
    this.server.close();
  }
}

/** The length of the emulated router's queue, in ms: a datagram that would wait longer is dropped. */
const QUEUE_MS = 300;

/** The size of the UDP and IPv4 headers of a datagram. */
const HEADER_BYTES = 28;

/** One direction of an emulated network path. Changed properties apply to datagrams that are sent afterwards. */
class EmulatedPath {
  /** Packet loss rate, from 0 to 1. */
  loss = 0;

  /** Propagation delay, in ms. */
  delay = 0;

  /** Maximum additional delay of each datagram, in ms. It reorders datagrams. */
  jitter = 0;

  /** Bandwidth, in kbit/s. */
  rate = Infinity;

  /** The number of delivered datagrams. */
  delivered = 0;

  /** Datagrams in flight, ordered by arrival time. @type {{due: number, deliver: () => void}[]} */
  #inFlight = [];

  /** When the queue will be empty. */
  #idleAt = 0;

  #timer;

  /** Sends a datagram, and calls `deliver` when it arrives, unless it is lost. */
  send(bytes, deliver) {
    const now = performance.now();
    const start = Math.max(now, this.#idleAt);
    if (Math.random() < this.loss || start - now > QUEUE_MS) return;
    this.#idleAt = start + (bytes + HEADER_BYTES) * 8 / this.rate;
    const due = this.#idleAt + this.delay + Math.random() * this.jitter;
    this.#inFlight.splice(this.#inFlight.findLastIndex((one) => one.due <= due) + 1, 0, { due, deliver });
    this.#deliverDue();
  }

  #deliverDue() {
    clearTimeout(this.#timer);
    const now = performance.now();
    while (this.#inFlight[0]?.due <= now) {
      this.delivered += 1;
      this.#inFlight.shift().deliver();
    }
    if (this.#inFlight.length) this.#timer = setTimeout(() => this.#deliverDue(), Math.ceil(this.#inFlight[0].due - now));
  }

  /** Drops all datagrams in flight. */
  clear() {
    this.#inFlight = [];
    this.#idleAt = 0;
  }
}

/** Relays one participant's media over UDP. The page replaces the server's port in ICE candidates by the proxy's. */
export class UdpProxy {
  /** From the page to the server. */
  up = new EmulatedPath();

  /** From the server to the page. */
  down = new EmulatedPath();

  isCut = false;

  /** The sockets towards the server, by the page's address. @type {Map<string, Promise<dgram.Socket>>} */
  #upstreams = new Map();

  /** @param {number} port of the server */
  static async start(port) {
    const proxy = new UdpProxy();
    proxy.target = port;
    proxy.socket = await bindSocket();
    proxy.socket.on("message", (datagram, from) => proxy.#relayUp(from, datagram));
    proxy.port = proxy.socket.address().port;
    return proxy;
  }

  /** Sets properties of both directions. @param {{loss?: number, delay?: number, jitter?: number, rate?: number}} impairment */
  impair(impairment) {
    for (const path of [this.up, this.down]) Object.assign(path, impairment);
  }

  /** The number of delivered datagrams, in both directions. */
  get delivered() {
    return this.up.delivered + this.down.delivered;
  }

  async #relayUp(from, datagram) {
    const key = `${from.address}:${from.port}`;
    if (!this.#upstreams.has(key)) this.#upstreams.set(key, this.#openUpstream(from));
    this.#relay(this.up, datagram, await this.#upstreams.get(key), this.target, "127.0.0.1");
  }

  /** Each of the page's connections has its own socket, so that the server can tell them apart. */
  async #openUpstream(from) {
    const upstream = await bindSocket();
    upstream.on("message", (datagram) => this.#relay(this.down, datagram, this.socket, from.port, from.address));
    return upstream;
  }

  #relay(path, datagram, socket, port, address) {
    if (!this.isCut) path.send(datagram.length, () => socket.send(datagram, port, address));
  }

  /** Drops all datagrams in both directions until {@link restore} is called. */
  cut() {
    this.isCut = true;
    for (const path of [this.up, this.down]) path.clear();
  }

  restore() {
    this.isCut = false;
  }

  async close() {
    this.cut();
    this.socket.close();
    for (const upstream of await Promise.all(this.#upstreams.values())) upstream.close();
  }
}

/** A socket on a free port of the loopback interface. */
async function bindSocket() {
  // A large buffer, so that datagrams are lost only where a scenario asks for it, not when this process is slow.
  const socket = dgram.createSocket({ type: "udp4", recvBufferSize: 1 << 20 });
  socket.on("error", () => {});
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}
