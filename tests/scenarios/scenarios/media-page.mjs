// The meeting page in a call, with a screenshot for the documentation.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { MEDIA_ON, expectVideo, mediaScenario as scenario } from "../media.mjs";

/** The directory of the screenshot, next to the installed packages. */
const SCREENSHOTS = new URL("../screenshots/", import.meta.url);

scenario("a participant on the meeting page and two SDK clients see each other", { events: [] }, async (context) => {
  const meeting = await context.server.createMeeting({ title: "Weekly" });
  const [bob] = await context.addParticipants(meeting, ["group_call_participant"], { init: MEDIA_ON });
  const [cem] = await context.addParticipants(meeting, ["group_call_participant"], { init: MEDIA_ON });
  const { token } = await context.server.addParticipant(meeting, { name: "Dora", preset_name: "group_call_host", custom_participant_id: "dora" });
  const browserContext = await context.browser.newContext({ permissions: ["microphone", "camera"], viewport: { width: 1280, height: 720 } });
  try {
    const page = await browserContext.newPage();
    context.monitorConsole(page, "Dora");
    await page.goto(`http://localhost:${context.server.port}/meet?authToken=${token}&audio=1&video=1`);
    await page.getByRole("button", { name: "Join" }).click({ timeout: 60_000 });
    const playing = () => page.locator("video").evaluateAll((all) => all.filter((one) => one.videoWidth > 0 && one.currentTime > 0.5 && one.getBoundingClientRect().width > 100).length);
    const deadline = Date.now() + 40_000;
    while ((await playing()) < 3) {
      assert(Date.now() < deadline, `${await playing()} videos are playing, not three`);
      await page.waitForTimeout(200);
    }
    for (const one of [bob, cem]) await expectVideo(one, "Dora");
    mkdirSync(SCREENSHOTS, { recursive: true });
    await page.screenshot({ path: new URL("meeting.png", SCREENSHOTS).pathname });
  } finally {
    await browserContext.close();
  }
});
