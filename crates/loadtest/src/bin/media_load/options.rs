//! Command line of the media load generator.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use parlor_testkit::arguments::{Arguments, CommonOptions};

pub(crate) const HELP: &str = "\
Puts load on the media plane of a real server with synthetic publishers and subscribers.

  media_load MODE… [OPTION…]

Modes
  video      VP8 publishers with packets of 1,100 bytes; every subscriber receives all of them
  audio      Opus publishers; with --talking only some of them speak, the others use DTX
  peers      peers that only connect: memory per peer, and duration of each phase of joining
  floor      the same packets forwarded unencrypted by a small loop: the cost of the kernel alone
  memory     an engine without sockets: instructions and nanoseconds per packet
  soak       clients that repeatedly join and leave, properly or not: fails when resources leak,
             no media arrives, or memory grows
  compare    video, audio and peers on Parlor and on Janus, with the floor of the same run

Options
  --server NAME         parlor or janus; may be repeated (parlor)
  --server-binary FILE  parlor binary (parlor in the directory of this program)
  --server-argument ARG additional argument for parlor; may be repeated
  --janus-script FILE   script that starts Janus (scripts/janus)
  --janus-loops N       event loops of Janus; 0 is its default, one thread per connection (0)
  --publishers N        video (1), audio (10)
  --subscribers N       video (100), audio (100)
  --talking N           audio: number of publishers that speak (all)
  --kbps N              video: bit rate of each publisher, or of its highest layer (2500)
  --simulcast           video: three layers per publisher, the lower ones with 500 and 150 kbit/s
  --count N             peers: number of peers (100)
  --room N              peers: peers per meeting (10)
  --seconds N           measured seconds (10)
  --sample N            decrypts one in N packets to measure latency (16)
  --most N              memory: fails if a packet takes more instructions, or they cannot be counted
  --minutes N           soak: duration (2)
  --meetings N          soak: number of concurrent meetings (6)
  --people N            soak: participants per meeting (4)
  --rate N              soak: joins per second (9)
  --quick               smoke run of a few seconds; its figures are meaningless
";

/// All modes.
pub(crate) const MODES: [&str; 7] = [
    "video", "audio", "peers", "floor", "memory", "soak", "compare",
];

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Parlor,
    Janus,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parlor => "Parlor",
            Self::Janus => "Janus",
        }
    }
}

/// What to run, and how much load to generate.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) common: CommonOptions,
    pub(crate) servers: Vec<Kind>,
    pub(crate) janus_script: PathBuf,
    pub(crate) janus_loops: usize,
    publishers: Option<usize>,
    subscribers: Option<usize>,
    talking: Option<usize>,
    pub(crate) kbps: u32,
    pub(crate) is_simulcast: bool,
    count: Option<usize>,
    pub(crate) room: usize,
    seconds: Option<usize>,
    pub(crate) sample: u64,
    pub(crate) most: Option<f64>,
    minutes: Option<f64>,
    meetings: Option<usize>,
    people: Option<usize>,
    pub(crate) rate: f64,
}

impl Options {
    /// Parses the arguments. Returns `None` to print the help text.
    pub(crate) fn from_arguments(words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            common: CommonOptions::default(),
            servers: Vec::new(),
            janus_script: "scripts/janus".into(),
            janus_loops: 0,
            publishers: None,
            subscribers: None,
            talking: None,
            kbps: 2500,
            is_simulcast: false,
            count: None,
            room: 10,
            seconds: None,
            sample: 16,
            most: None,
            minutes: None,
            meetings: None,
            people: None,
            rate: 9.0,
        };
        let mut rest = Arguments::new(words);
        while let Some(word) = rest.word() {
            if options.common.parse_option(&word, &MODES, &mut rest)? {
                continue;
            }
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--server" => options
                    .servers
                    .push(match rest.value::<String>()?.as_str() {
                        "parlor" => Kind::Parlor,
                        "janus" => Kind::Janus,
                        other => bail!("unknown server {other}"),
                    }),
                "--janus-script" => options.janus_script = rest.value()?,
                "--janus-loops" => options.janus_loops = rest.value()?,
                "--publishers" => options.publishers = Some(rest.value()?),
                "--subscribers" => options.subscribers = Some(rest.value()?),
                "--talking" => options.talking = Some(rest.value()?),
                "--kbps" => options.kbps = rest.value()?,
                "--simulcast" => options.is_simulcast = true,
                "--count" => options.count = Some(rest.value()?),
                "--room" => options.room = rest.value::<usize>()?.max(1),
                "--seconds" => options.seconds = Some(rest.value()?),
                "--sample" => options.sample = rest.value()?,
                "--most" => options.most = Some(rest.value()?),
                "--minutes" => options.minutes = Some(rest.value()?),
                "--meetings" => options.meetings = Some(rest.value()?),
                "--people" => options.people = Some(rest.value()?),
                "--rate" => options.rate = rest.value()?,
                other => bail!("unknown mode or option {other}\n\n{HELP}"),
            }
        }
        if options.common.modes.is_empty() {
            return Ok(None);
        }
        ensure!(
            (0.1..=1000.0).contains(&options.rate),
            "--rate must be between 0.1 and 1000"
        );
        ensure!(
            (0.2..=10_000.0).contains(&options.minutes()),
            "--minutes must be between 0.2 and 10000"
        );
        ensure!(
            (1..=20_000).contains(&options.kbps),
            "--kbps must be between 1 and 20000"
        );
        if options.servers.is_empty() {
            options.servers.push(Kind::Parlor);
        }
        Ok(Some(options))
    }

    pub(crate) fn video_publishers(&self) -> usize {
        self.common.count(self.publishers, 1, 1)
    }

    pub(crate) fn video_subscribers(&self) -> usize {
        self.common.count(self.subscribers, 100, 5)
    }

    pub(crate) fn audio_publishers(&self) -> usize {
        self.common.count(self.publishers, 10, 3)
    }

    pub(crate) fn audio_subscribers(&self) -> usize {
        self.common.count(self.subscribers, 100, 5)
    }

    pub(crate) fn talking(&self) -> usize {
        self.talking.unwrap_or(usize::MAX)
    }

    pub(crate) fn peers(&self) -> usize {
        self.common.count(self.count, 100, 6)
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.common.count(self.seconds, 10, 2) as u64
    }

    pub(crate) fn minutes(&self) -> f64 {
        let default = if self.common.is_quick { 0.5 } else { 2.0 };
        self.minutes.unwrap_or(default)
    }

    pub(crate) fn meetings(&self) -> usize {
        self.common.count(self.meetings, 6, 3)
    }

    pub(crate) fn people(&self) -> usize {
        self.common.count(self.people, 4, 3)
    }
}
