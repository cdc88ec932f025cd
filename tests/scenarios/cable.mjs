// The lines between one person and the server, to be pulled out: the socket's, and that of media, which can be a bad one too.

import dgram from "node:dgram";
import { once } from "node:events";
import net from "node:net";

export class Cable {
  /** Opens a port of its own whose connections end at `port`. @param {number} port */
  static async to(port) {
    const cable = new Cable();
    cable.ends = new Set();
    cable.plugged = true;
    cable.server = net.createServer((near) => {
      if (!cable.plugged) {
        near.resetAndDestroy();
        return;
      }
      if (cable.silent) {
        // Let through, it would be cut by the pull in the middle of what the SDK says first, which that does not recover from.
        cable.ends.add([near.pause()]);
        near.on("error", () => {});
        return;
      }
      const far = net.connect(port, "127.0.0.1");
      const both = [near, far];
      cable.ends.add(both);
      for (const end of both) {
        end.setNoDelay(true);
        end.on("error", () => {});
        end.on("close", () => {
          cable.ends.delete(both);
          // A cable that does not carry anything does not carry the end of a connection either.
          if (!cable.silent) both.forEach((other) => other.destroy());
        });
      }
      near.pipe(far);
      far.pipe(near);
    });
    cable.server.listen(0, "127.0.0.1");
    await once(cable.server, "listening");
    cable.port = cable.server.address().port;
    return cable;
  }

  /** Breaks what is connected, both ends at once, and lets nothing new through until it is plugged in. */
  pull() {
    this.plugged = false;
    this.silent = false;
    for (const both of this.ends) both.forEach((end) => end.resetAndDestroy());
    this.ends.clear();
  }

  plug() {
    this.plugged = true;
    this.silent = false;
  }

  /** Lets nothing through in either direction, and tells nobody. What is connected, or connects now, stays so until {@link pull}. */
  mute() {
    this.silent = true;
    for (const [near, far] of this.ends) {
      near.unpipe(far);
      far.unpipe(near);
      near.pause();
      far.pause();
    }
  }

  /** Removes it. */
  remove() {
    this.pull();
    this.server.close();
  }
}

/** What would wait longer than this for its turn is dropped, in ms: so much memory has a cheap router. */
const QUEUE_MS = 300;

/** What a datagram weighs besides its bytes: the headers of UDP and IPv4. */
const HEADERS = 28;

/** One direction of a line, as bad as a scenario makes it. What is set counts for what is sent from then on. */
class Lane {
  /** The share that gets lost on the way, from 0 to 1. */
  loss = 0;

  /** How long everything is on the way, in ms. */
  delay = 0;

  /** Up to so much longer, in ms, each datagram by itself: they overtake each other. */
  jitter = 0;

  /** What it carries, in kbit/s. */
  rate = Infinity;

  /** How many datagrams have got through. */
  carried = 0;

  /** What is on the way, the next to arrive first. @type {{due: number, arrive: () => void}[]} */
  #way = [];

  /** When the last of what waits for its turn has had it. */
  #free = 0;

  #timer;

  /** Takes a datagram, and calls `arrive` when that has got to the other end, if it does. */
  carry(bytes, arrive) {
    const now = performance.now();
    const turn = Math.max(now, this.#free);
    if (Math.random() < this.loss || turn - now > QUEUE_MS) return;
    this.#free = turn + (bytes + HEADERS) * 8 / this.rate;
    const due = this.#free + this.delay + Math.random() * this.jitter;
    this.#way.splice(this.#way.findLastIndex((one) => one.due <= due) + 1, 0, { due, arrive });
    this.#deliver();
  }

  #deliver() {
    clearTimeout(this.#timer);
    const now = performance.now();
    while (this.#way[0]?.due <= now) {
      this.carried += 1;
      this.#way.shift().arrive();
    }
    if (this.#way.length) this.#timer = setTimeout(() => this.#deliver(), Math.ceil(this.#way[0].due - now));
  }

  /** Loses everything that is on the way. */
  clear() {
    this.#way = [];
    this.#free = 0;
  }
}

/** The way of one person's media over UDP. The page is told that the server is at its port. */
export class MediaCable {
  /** From the page to the server. */
  up = new Lane();

  /** From the server to the page. */
  down = new Lane();

  plugged = true;

  /** The sockets towards the server, by the address in the page. @type {Map<string, Promise<dgram.Socket>>} */
  #far = new Map();

  /** @param {number} port of the server */
  static async to(port) {
    const cable = new MediaCable();
    cable.target = port;
    cable.near = await bound();
    cable.near.on("message", (datagram, from) => cable.#send(from, datagram));
    cable.port = cable.near.address().port;
    return cable;
  }

  /** Makes both directions as bad as this. @param {{loss?: number, delay?: number, jitter?: number, rate?: number}} weather */
  suffer(weather) {
    for (const lane of [this.up, this.down]) Object.assign(lane, weather);
  }

  /** How many datagrams have got through, both ways. */
  get carried() {
    return this.up.carried + this.down.carried;
  }

  async #send(from, datagram) {
    const key = `${from.address}:${from.port}`;
    if (!this.#far.has(key)) this.#far.set(key, this.#open(from));
    this.#carry(this.up, datagram, await this.#far.get(key), this.target, "127.0.0.1");
  }

  /** A socket of its own for each connection of the page, or the server could not tell them apart. */
  async #open(from) {
    const far = await bound();
    far.on("message", (datagram) => this.#carry(this.down, datagram, this.near, from.port, from.address));
    return far;
  }

  #carry(lane, datagram, socket, port, address) {
    if (this.plugged) lane.carry(datagram.length, () => socket.send(datagram, port, address));
  }

  /** Lets nothing through, and tells nobody. */
  pull() {
    this.plugged = false;
    for (const lane of [this.up, this.down]) lane.clear();
  }

  plug() {
    this.plugged = true;
  }

  /** Removes it. */
  async remove() {
    this.pull();
    this.near.close();
    for (const far of await Promise.all(this.#far.values())) far.close();
  }
}

/** A socket on a port of the loopback interface. */
async function bound() {
  // What the suite has no time for yet must not be lost: only what a scenario wants to lose is.
  const socket = dgram.createSocket({ type: "udp4", recvBufferSize: 1 << 20 });
  socket.on("error", () => {});
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}
