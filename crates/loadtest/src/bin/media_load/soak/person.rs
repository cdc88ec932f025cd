//! How somebody comes, what they do, and how they go.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parlor_testkit::media::{Guest, Plan, Probe, Published, Source, probe};
use parlor_testkit::signal::Identity;
use tokio::task::JoinSet;

use super::World;

/// How long the tracks of others may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// A socket from which nothing comes is noticed after so long: 40 s, at the next ping.
const SILENCE: Duration = Duration::from_secs(54);

/// A transport without its client is freed after so long: 30 s of consent, whose end is noticed within
/// ten, and 60 s to come back.
const CONSENT: Duration = Duration::from_secs(104);

/// About how long somebody does nothing.
const BETWEEN: Duration = Duration::from_millis(1200);

/// What somebody may be late with who gives up.
const IMPATIENCE_MS: u64 = 150;

/// Chance, the same in every run (`SplitMix64`).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed << 32)
    }

    /// A number below this.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Half of this to half as much again.
    fn about(&mut self, time: Duration) -> Duration {
        let thousandths = u32::try_from(500 + self.below(1000)).unwrap_or(1000);
        time * thousandths / 1000
    }
}

/// How somebody goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// As the SDK does.
    Leaves,
    /// The page is closed.
    ClosesPage,
    /// The network breaks, of socket and media.
    Breaks,
    /// The socket breaks first.
    LosesSocket,
    /// Before everything of coming is done.
    GivesUp,
    /// Nothing is closed, nothing comes any more.
    Vanishes,
    /// Nothing comes of media any more; the socket goes on.
    LosesMedia,
}

impl Exit {
    /// Those of which the server learns by waiting come so early that it has waited in the end; it
    /// holds most of them for as long in either half, so that the two can be compared.
    fn draw(dice: &mut Dice, left: Duration, left_of_half: Duration) -> Self {
        match dice.below(100) {
            0..10 => Self::GivesUp,
            10..25 => Self::ClosesPage,
            25..40 => Self::Breaks,
            40..50 => Self::LosesSocket,
            50..60 if left_of_half > SILENCE => Self::Vanishes,
            60..66 if left > CONSENT => Self::LosesMedia,
            _ => Self::Leaves,
        }
    }
}

/// A microphone and a camera in three layers, in few and small packets. One in four speaks.
pub(super) fn plan(dice: &mut Dice) -> Plan {
    let microphone = match dice.below(4) {
        0 => Source::Voice { bytes: 60 },
        _ => Source::Silence,
    };
    let layer = |packets, bytes, size| Source::Video {
        fps: 8,
        packets,
        bytes,
        size,
    };
    let camera = Published {
        smaller: vec![layer(1, 400, (640, 360)), layer(1, 200, (320, 180))],
        ..Published::at_once(layer(2, 600, (1280, 720)))
    };
    Plan {
        publishes: vec![Published::at_once(microphone), camera],
        subscribes: true,
        connects_both: true,
    }
}

/// One person's client: in again and again, in another tab each time.
pub(super) async fn sit(world: &World, who: &Identity, mut dice: Dice, until: Instant) {
    let mut left_behind = JoinSet::new();
    let half = until.saturating_duration_since(Instant::now()) / 2;
    loop {
        world.turns.lock().await.tick().await;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let left_of_half = left.checked_sub(half).unwrap_or(left);
        let exit = Exit::draw(&mut dice, left, left_of_half);
        let visit = Visit { world, until, exit };
        match visit.pay(&who.in_another_tab(), &mut dice).await {
            Ok(Some(gone)) => {
                left_behind.spawn(async move { (exit, gone.linger(exit, until).await) });
            }
            Ok(None) => {}
            Err(error) => world.fails(exit, &error),
        }
    }
    while let Some(ended) = left_behind.join_next().await {
        match ended {
            Ok((exit, Err(error))) => world.fails(exit, &error),
            Ok((_, Ok(()))) => {}
            Err(error) => world.tally().failures.push(error.to_string()),
        }
    }
}

/// A client that the server has not heard of for a while, and what it had there.
struct Gone {
    guest: Guest,
    transports: Vec<Probe>,
}

impl Gone {
    /// Waits for what the server does about it.
    async fn linger(self, exit: Exit, until: Instant) -> Result<()> {
        if exit == Exit::Vanishes {
            self.guest.peer.closed_within(SILENCE).await?;
            return Ok(());
        }
        tokio::time::sleep_until(until.into()).await;
        let found = probe::found(&self.transports).await?;
        ensure!(
            found == 0,
            "{found} transports are held without their client"
        );
        self.guest.peer.leave().await
    }
}

impl World {
    fn fails(&self, exit: Exit, error: &anyhow::Error) {
        self.tally().failures.push(format!("{exit:?}: {error:#}"));
    }

    /// These tracks are sent and heard, or not any more.
    fn flow(&self, producers: &[String], is_flowing: bool) {
        let mut tally = self.tally();
        for producer in producers {
            if is_flowing {
                tally.flowing.insert(producer.clone());
            } else {
                tally.flowing.remove(producer);
            }
        }
    }
}

/// One stay in a meeting.
struct Visit<'w> {
    world: &'w World,
    until: Instant,
    exit: Exit,
}

impl Visit<'_> {
    /// All of it; who stays behind, if somebody does.
    async fn pay(&self, who: &Identity, dice: &mut Dice) -> Result<Option<Gone>> {
        let plan = plan(dice);
        let coming = Guest::enter(who, &self.world.wires, &plan);
        if self.exit == Exit::GivesUp {
            let patience = Duration::from_millis(dice.below(IMPATIENCE_MS));
            if let Ok(came) = tokio::time::timeout(patience, coming).await {
                came?;
            }
            self.world.tally().given_up += 1;
            return Ok(None);
        }
        let began = Instant::now();
        let (mut guest, _) = coming.await.context("joining")?;
        self.world.tally().joins.push(began.elapsed());
        self.world.flow(&guest.published, true);
        let stayed = self.stay(&mut guest, &plan, dice).await;
        self.world.flow(&guest.published, false);
        stayed?;
        self.go(guest).await
    }

    async fn stay(&self, guest: &mut Guest, plan: &Plan, dice: &mut Dice) -> Result<()> {
        self.hears(guest).await?;
        let leaves = Instant::now() + dice.about(self.world.stay);
        while Instant::now() < leaves.min(self.until) {
            let pause = dice.about(BETWEEN).min(leaves - Instant::now().min(leaves));
            tokio::time::sleep(pause).await;
            self.act(guest, plan, dice).await?;
            let (came, gone) = guest.news()?;
            guest
                .close_consumers(&gone)
                .await
                .context("receiving less")?;
            guest
                .consume(&self.world.wires, &came)
                .await
                .context("receiving more")?;
            let odd: Vec<_> = guest
                .refused
                .drain(..)
                .filter(|code| code != "not_found_track_error")
                .collect();
            ensure!(odd.is_empty(), "refused: {odd:?}");
        }
        Ok(())
    }

    async fn act(&self, guest: &mut Guest, plan: &Plan, dice: &mut Dice) -> Result<()> {
        let chosen = dice.below(12);
        match chosen {
            0 | 1 => {
                let track = usize::from(chosen == 1);
                let Some(producer) = guest.published.get(track).cloned() else {
                    return Ok(());
                };
                let muted = [producer];
                self.world.flow(&muted, false);
                for (pause, after_ms) in [(true, 200), (false, 0)] {
                    for producer in &muted {
                        guest.toggle(producer, pause).await.context("muting")?;
                    }
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                }
                self.world.flow(&muted, true);
            }
            2 | 3 => {
                let rid = if chosen == 2 { "q" } else { "h" };
                guest.prefer(rid).await.context("another layer")?;
            }
            4 => {
                self.world.flow(&guest.published, false);
                let wires = &self.world.wires;
                guest.come_back(wires).await.context("coming back")?;
                for published in &plan.publishes {
                    guest
                        .produce(wires, published)
                        .await
                        .context("publishing anew")?;
                }
                self.world.flow(&guest.published, true);
                self.world.tally().came_back += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits until every track arrives that is there to be heard.
    async fn hears(&self, guest: &Guest) -> Result<()> {
        let (wires, began) = (&self.world.wires, Instant::now());
        let on = guest.receiving().context("nothing to receive on")?;
        let sent: Vec<&String> = {
            let tally = self.world.tally();
            let ids = guest.received.iter().map(|(id, _)| id);
            ids.filter(|id| tally.flowing.contains(*id)).collect()
        };
        loop {
            let heard = wires.rig.streams(on).await?;
            let wanted = {
                let tally = self.world.tally();
                sent.iter()
                    .filter(|id| tally.flowing.contains(**id))
                    .count()
            };
            if heard >= wanted {
                let mut tally = self.world.tally();
                tally.heard += wanted;
                if wanted > 0 {
                    tally.waits.push(began.elapsed());
                }
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "{heard} of {wanted} tracks have arrived in {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn go(&self, mut guest: Guest) -> Result<Option<Gone>> {
        match self.exit {
            Exit::Leaves => guest.peer.leave().await.context("leaving")?,
            Exit::ClosesPage => guest.peer.close(1001).await.context("leaving")?,
            Exit::LosesSocket => {
                guest.peer.break_off().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Exit::Breaks | Exit::GivesUp => {}
            Exit::Vanishes => {
                let transports = guest.drop_media();
                guest.peer.fall_silent();
                self.world.tally().vanished += 1;
                return Ok(Some(Gone { guest, transports }));
            }
            Exit::LosesMedia => {
                let transports = guest.drop_media();
                self.world.tally().dead_lines += 1;
                return Ok(Some(Gone { guest, transports }));
            }
        }
        Ok(None)
    }
}
