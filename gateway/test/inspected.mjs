// The built Worker, with Durable Objects that can be looked into: what a test may know and a
// client must not. Runs in workerd.

import worker, { Nonces as ShippedNonces, Values as ShippedValues } from "./worker.js";

export default worker;

export class Values extends ShippedValues {
  /** How much the object keeps, and when it is woken. */
  async fetch() {
    const { storage } = this.ctx;
    return Response.json({
      kept: [...storage.kv.list()].map(([name]) => name),
      alarm: await storage.getAlarm(),
    });
  }
}

export class Nonces extends ShippedNonces {
  /** How many nonces there are; with `?age` after so many milliseconds more, and an alarm. */
  async fetch(request) {
    const { storage } = this.ctx;
    const age = new URL(request.url).searchParams.get("age");
    if (age !== null) {
      storage.sql.exec("UPDATE nonces SET until = until - ?", Number(age));
      await storage.deleteAlarm();
      await this.alarm();
    }
    return Response.json({
      nonces: storage.sql.exec("SELECT nonce FROM nonces").toArray().length,
      alarm: await storage.getAlarm(),
    });
  }
}
