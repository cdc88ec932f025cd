// The meeting page with people in it who see each other, photographed for the documentation.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { ON, sees, mediaScenario as scenario } from "../media.mjs";

/** Where the photograph goes: beside what the suite installs. */
const PHOTOGRAPHS = new URL("../photographs/", import.meta.url);

scenario("somebody on the meeting page sees two others, and they see them", { sees: [] }, async (world) => {
  const meeting = await world.parlor.meeting({ title: "Weekly" });
  const [bob] = await world.people(meeting, ["group_call_participant"], { init: ON });
  const [cem] = await world.people(meeting, ["group_call_participant"], { init: ON });
  const { token } = await world.parlor.add(meeting, { name: "Dora", preset_name: "group_call_host", custom_participant_id: "dora" });
  const context = await world.browser.newContext({ permissions: ["microphone", "camera"], viewport: { width: 1280, height: 720 } });
  try {
    const page = await context.newPage();
    world.listen(page, "Dora");
    await page.goto(`http://localhost:${world.parlor.port}/meet?authToken=${token}&audio=1&video=1`);
    await page.getByRole("button", { name: "Join" }).click({ timeout: 60_000 });
    const playing = () => page.locator("video").evaluateAll((all) => all.filter((one) => one.videoWidth > 0 && one.currentTime > 0.5 && one.getBoundingClientRect().width > 100).length);
    const deadline = Date.now() + 40_000;
    while ((await playing()) < 3) {
      assert(Date.now() < deadline, `${await playing()} pictures are shown, not three`);
      await page.waitForTimeout(200);
    }
    for (const one of [bob, cem]) await sees(one, "Dora");
    mkdirSync(PHOTOGRAPHS, { recursive: true });
    await page.screenshot({ path: new URL("meeting.png", PHOTOGRAPHS).pathname });
  } finally {
    await context.close();
  }
});
