// The lines between one person and the server, to be pulled out: one for the socket, one for media.

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

  /** Lets nothing through in either direction, and tells nobody. What is connected stays so until {@link pull}. */
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

/** The way of one person's media over UDP. The page is told that the server is at its port. */
export class MediaCable {
  /** @param {number} port of the server */
  static async to(port) {
    const cable = new MediaCable();
    Object.assign(cable, { plugged: true, loss: 0, carried: 0, far: new Map(), target: port });
    cable.near = await bound();
    cable.near.on("message", (datagram, from) => cable.send(from, datagram).catch(() => {}));
    cable.port = cable.near.address().port;
    return cable;
  }

  /** Whether the next datagram gets through. */
  carries() {
    if (!this.plugged || Math.random() < this.loss) return false;
    this.carried += 1;
    return true;
  }

  async send(from, datagram) {
    if (!this.carries()) return;
    const key = `${from.address}:${from.port}`;
    if (!this.far.has(key)) this.far.set(key, this.open(from));
    (await this.far.get(key)).send(datagram, this.target, "127.0.0.1");
  }

  /** A socket of its own for each connection of the page, or the server could not tell them apart. */
  async open(from) {
    const far = await bound();
    far.on("message", (datagram) => {
      if (this.carries()) this.near.send(datagram, from.port, from.address);
    });
    return far;
  }

  /** Lets nothing through, and tells nobody. */
  pull() {
    this.plugged = false;
  }

  plug() {
    this.plugged = true;
  }

  /** Removes it. */
  async remove() {
    this.plugged = false;
    this.near.close();
    for (const far of await Promise.all(this.far.values())) far.close();
  }
}

/** A socket on a port of the loopback interface. */
async function bound() {
  const socket = dgram.createSocket("udp4");
  socket.on("error", () => {});
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}
