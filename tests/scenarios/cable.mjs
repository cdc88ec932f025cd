// The line between one person and the server, to be pulled out.

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
