//! A participant that joins, acts and leaves repeatedly.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parlor_testkit::media::{MediaClient, Plan, Probe, Published, Source, probe};
use parlor_testkit::signal::Identity;
use tokio::task::JoinSet;

use super::Soak;

/// Timeout for the tracks of other peers to arrive.
const TRACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Time within which the server closes a silent socket: 40 s, plus the time until the next ping.
const SILENT_SOCKET: Duration = Duration::from_secs(54);

/// Time within which the server closes a transport without a client: consent expires after 30 s,
/// which is detected within ten, and the client has 60 s to reconnect.
const DEAD_TRANSPORT: Duration = Duration::from_secs(104);

/// Average pause between two actions.
const PAUSE: Duration = Duration::from_millis(1200);

/// Maximum time after which a client gives up joining, in milliseconds.
const GIVE_UP_MS: u64 = 150;

/// A deterministic random number generator (`SplitMix64`), so that every run is the same.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed << 32)
    }

    /// Returns a number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Returns between 50 % and 150 % of this time.
    fn about(&mut self, time: Duration) -> Duration {
        let thousandths = u32::try_from(500 + self.below(1000)).unwrap_or(1000);
        time * thousandths / 1000
    }
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Leaves as the SDK does.
    Leaves,
    /// Closes the page.
    ClosesPage,
    /// Loses the network, for socket and media.
    Breaks,
    /// Loses the socket before the media.
    LosesSocket,
    /// Gives up before it has joined completely.
    GivesUp,
    /// Sends nothing more without closing anything.
    Vanishes,
    /// Loses media only and keeps the socket.
    LosesMedia,
}

impl Exit {
    /// Chooses how to leave. Exits that the server detects only by a timeout are chosen early
    /// enough for the timeout to expire before the end. Most of them also expire within the same
    /// half of the run, so that the halves are comparable.
    fn random(rng: &mut Rng, left: Duration, left_of_half: Duration) -> Self {
        match rng.below(100) {
            0..10 => Self::GivesUp,
            10..25 => Self::ClosesPage,
            25..40 => Self::Breaks,
            40..50 => Self::LosesSocket,
            50..60 if left_of_half > SILENT_SOCKET => Self::Vanishes,
            60..66 if left > DEAD_TRANSPORT => Self::LosesMedia,
            _ => Self::Leaves,
        }
    }
}

/// Returns a plan with a microphone and a camera with three layers, with few and small packets. One
/// in four microphones is not silent.
pub(super) fn plan(rng: &mut Rng) -> Plan {
    let microphone = match rng.below(4) {
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

/// Runs one participant, who joins repeatedly with a new client each time.
pub(super) async fn run_client(soak: &Soak, identity: &Identity, mut rng: Rng, until: Instant) {
    let mut abandoned = JoinSet::new();
    let half = until.saturating_duration_since(Instant::now()) / 2;
    loop {
        soak.join_pace.lock().await.tick().await;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let left_of_half = left.checked_sub(half).unwrap_or(left);
        let exit = Exit::random(&mut rng, left, left_of_half);
        let visit = Visit { soak, until, exit };
        match visit.run(&identity.in_another_tab(), &mut rng).await {
            Ok(Some(client)) => {
                abandoned.spawn(async move { (exit, client.wait_for_cleanup(exit, until).await) });
            }
            Ok(None) => {}
            Err(error) => soak.add_failure(exit, &error),
        }
    }
    while let Some(ended) = abandoned.join_next().await {
        match ended {
            Ok((exit, Err(error))) => soak.add_failure(exit, &error),
            Ok((_, Ok(()))) => {}
            Err(error) => soak.tally().failures.push(error.to_string()),
        }
    }
}

/// A client that went away without notifying the server, with its transports.
struct Abandoned {
    client: MediaClient,
    transports: Vec<Probe>,
}

impl Abandoned {
    /// Waits until the server has cleaned up.
    async fn wait_for_cleanup(self, exit: Exit, until: Instant) -> Result<()> {
        if exit == Exit::Vanishes {
            self.client.peer.closed_within(SILENT_SOCKET).await?;
            return Ok(());
        }
        tokio::time::sleep_until(until.into()).await;
        let found = probe::count_alive(&self.transports).await?;
        ensure!(
            found == 0,
            "the server still has {found} transports without a client"
        );
        self.client.peer.leave().await
    }
}

impl Soak {
    fn add_failure(&self, exit: Exit, error: &anyhow::Error) {
        self.tally().failures.push(format!("{exit:?}: {error:#}"));
    }

    /// Records that these producers are sending, or have stopped or paused.
    fn set_flowing(&self, producers: &[String], is_flowing: bool) {
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

/// One visit to a meeting.
struct Visit<'w> {
    soak: &'w Soak,
    until: Instant,
    exit: Exit,
}

impl Visit<'_> {
    /// Runs the whole visit. Returns the client if it went away without notifying the server.
    async fn run(&self, identity: &Identity, rng: &mut Rng) -> Result<Option<Abandoned>> {
        let plan = plan(rng);
        let joining = MediaClient::enter(identity, &self.soak.shared, &plan);
        if self.exit == Exit::GivesUp {
            let timeout = Duration::from_millis(rng.below(GIVE_UP_MS));
            if let Ok(joined) = tokio::time::timeout(timeout, joining).await {
                joined?;
            }
            self.soak.tally().given_up += 1;
            return Ok(None);
        }
        let began = Instant::now();
        let (mut client, _) = joining.await.context("joining")?;
        self.soak.tally().joins.push(began.elapsed());
        self.soak.set_flowing(&client.published, true);
        let outcome = self.act(&mut client, &plan, rng).await;
        self.soak.set_flowing(&client.published, false);
        outcome?;
        self.leave(client).await
    }

    /// Performs random actions until it is time to leave.
    async fn act(&self, client: &mut MediaClient, plan: &Plan, rng: &mut Rng) -> Result<()> {
        self.wait_for_tracks(client).await?;
        let leaves = Instant::now() + rng.about(self.soak.visit_time);
        while Instant::now() < leaves.min(self.until) {
            let pause = rng.about(PAUSE).min(leaves - Instant::now().min(leaves));
            tokio::time::sleep(pause).await;
            self.random_action(client, plan, rng).await?;
            let (added, removed) = client.take_track_changes()?;
            client
                .close_consumers(&removed)
                .await
                .context("closing consumers")?;
            client
                .consume(&self.soak.shared, &added)
                .await
                .context("consuming")?;
            let unexpected: Vec<_> = client
                .refused
                .drain(..)
                .filter(|code| code != "not_found_track_error")
                .collect();
            ensure!(unexpected.is_empty(), "rejected: {unexpected:?}");
        }
        Ok(())
    }

    async fn random_action(
        &self,
        client: &mut MediaClient,
        plan: &Plan,
        rng: &mut Rng,
    ) -> Result<()> {
        let chosen = rng.below(12);
        match chosen {
            0 | 1 => {
                let track = usize::from(chosen == 1);
                let Some(producer) = client.published.get(track).cloned() else {
                    return Ok(());
                };
                let muted = [producer];
                self.soak.set_flowing(&muted, false);
                for (pause, after_ms) in [(true, 200), (false, 0)] {
                    for producer in &muted {
                        client.set_paused(producer, pause).await.context("muting")?;
                    }
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                }
                self.soak.set_flowing(&muted, true);
            }
            2 | 3 => {
                let rid = if chosen == 2 { "q" } else { "h" };
                client
                    .prefer_layer(rid)
                    .await
                    .context("changing the layer")?;
            }
            4 => {
                self.soak.set_flowing(&client.published, false);
                let shared = &self.soak.shared;
                client.reconnect(shared).await.context("reconnecting")?;
                for published in &plan.publishes {
                    client
                        .produce(shared, published)
                        .await
                        .context("publishing again")?;
                }
                self.soak.set_flowing(&client.published, true);
                self.soak.tally().reconnected += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits until media arrives for every consumed producer that is sending.
    async fn wait_for_tracks(&self, client: &MediaClient) -> Result<()> {
        let (shared, began) = (&self.soak.shared, Instant::now());
        let on = client.receiving().context("no receiving transport")?;
        let sent: Vec<&String> = {
            let tally = self.soak.tally();
            let ids = client.received.iter().map(|(id, _)| id);
            ids.filter(|id| tally.flowing.contains(*id)).collect()
        };
        loop {
            let received = shared.thread.streams(on).await?;
            let wanted = {
                let tally = self.soak.tally();
                sent.iter()
                    .filter(|id| tally.flowing.contains(**id))
                    .count()
            };
            if received >= wanted {
                let mut tally = self.soak.tally();
                tally.received += wanted;
                if wanted > 0 {
                    tally.waits.push(began.elapsed());
                }
                return Ok(());
            }
            ensure!(
                began.elapsed() < TRACK_TIMEOUT,
                "{received} of {wanted} tracks arrived within {TRACK_TIMEOUT:?}"
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn leave(&self, mut client: MediaClient) -> Result<Option<Abandoned>> {
        match self.exit {
            Exit::Leaves => client.peer.leave().await.context("leaving")?,
            Exit::ClosesPage => client.peer.close(1001).await.context("leaving")?,
            Exit::LosesSocket => {
                client.peer.break_off().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Exit::Breaks | Exit::GivesUp => {}
            Exit::Vanishes => {
                let transports = client.drop_media();
                client.peer.stop_answering_pings();
                self.soak.tally().vanished += 1;
                return Ok(Some(Abandoned { client, transports }));
            }
            Exit::LosesMedia => {
                let transports = client.drop_media();
                self.soak.tally().lost_media += 1;
                return Ok(Some(Abandoned { client, transports }));
            }
        }
        Ok(None)
    }
}
