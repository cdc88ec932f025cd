//! What is asked for.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use parlor_testkit::arguments::{Arguments, Task};

pub(crate) const HELP: &str = "\
Load on the media plane of a real server: synthetic publishers and subscribers.

  media_load MODE… [OPTION…]

Modes
  video      publishers of VP8 in packets of 1,100 bytes; every subscriber receives all of them
  audio      publishers of Opus; with --talking only some of them speak, the others have DTX
  peers      people who only connect: memory of each, and how long each phase of coming takes
  floor      the same packets forwarded in clear by a loop of 30 lines: what the kernel alone costs
  memory     an engine without sockets: instructions and nanoseconds per packet
  soak       people who come and go, properly and not, again and again: fails when anything of them
             is left behind, nobody is heard, or memory grows
  compare    video, audio and peers on Parlor and on Janus, with the floor of the same run

Options
  --server NAME         parlor or janus; may be given twice (parlor)
  --server-binary FILE  the parlor to start; the one beside this program otherwise
  --server-argument ARG one more argument for it; may be repeated
  --janus-script FILE   what starts Janus (scripts/janus)
  --janus-loops N       event loops of Janus: 0 is its default, a thread for each connection (0)
  --publishers N        video (1), audio (10)
  --subscribers N       video (100), audio (100)
  --talking N           audio: how many of the publishers speak (all)
  --kbps N              video: of each publisher (2500); with --simulcast of the largest layer
  --simulcast           video: three layers from each publisher, 500 and 150 kbit/s the smaller ones
  --count N             peers (100)
  --room N              peers of one meeting (10)
  --seconds N           how long is measured (10)
  --sample N            one packet of so many is decrypted for the times (16)
  --most N              memory: fails when a packet takes more instructions, or they are not counted
  --minutes N           soak: how long people come and go (2)
  --meetings N          soak: at once (6)
  --people N            soak: of each meeting (4)
  --rate N              soak: joins a second (9)
  --quick               a smoke run of a few seconds: its figures say nothing
";

/// Every mode.
pub(crate) const MODES: [&str; 7] = [
    "video", "audio", "peers", "floor", "memory", "soak", "compare",
];

/// Which server.
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

/// What to load, and how much of it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) task: Task,
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
    /// Reads the arguments; `None` asks for the help text.
    pub(crate) fn from_arguments(words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            task: Task::default(),
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
            if options.task.takes(&word, &MODES, &mut rest)? {
                continue;
            }
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--server" => options
                    .servers
                    .push(match rest.value::<String>()?.as_str() {
                        "parlor" => Kind::Parlor,
                        "janus" => Kind::Janus,
                        other => bail!("no server {other}"),
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
                other => bail!("no mode or option {other}\n\n{HELP}"),
            }
        }
        if options.task.modes.is_empty() {
            return Ok(None);
        }
        ensure!(
            (0.1..=1000.0).contains(&options.rate),
            "--rate is 0.1 to 1000"
        );
        ensure!(
            (0.2..=10_000.0).contains(&options.minutes()),
            "--minutes is 0.2 to 10000"
        );
        ensure!((1..=20_000).contains(&options.kbps), "--kbps is 1 to 20000");
        if options.servers.is_empty() {
            options.servers.push(Kind::Parlor);
        }
        Ok(Some(options))
    }

    pub(crate) fn video_publishers(&self) -> usize {
        self.task.number(self.publishers, 1, 1)
    }

    pub(crate) fn video_subscribers(&self) -> usize {
        self.task.number(self.subscribers, 100, 5)
    }

    pub(crate) fn audio_publishers(&self) -> usize {
        self.task.number(self.publishers, 10, 3)
    }

    pub(crate) fn audio_subscribers(&self) -> usize {
        self.task.number(self.subscribers, 100, 5)
    }

    pub(crate) fn talking(&self) -> usize {
        self.talking.unwrap_or(usize::MAX)
    }

    pub(crate) fn peers(&self) -> usize {
        self.task.number(self.count, 100, 6)
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.task.number(self.seconds, 10, 2) as u64
    }

    pub(crate) fn minutes(&self) -> f64 {
        let usual = if self.task.is_quick { 0.5 } else { 2.0 };
        self.minutes.unwrap_or(usual)
    }

    pub(crate) fn meetings(&self) -> usize {
        self.task.number(self.meetings, 6, 3)
    }

    pub(crate) fn people(&self) -> usize {
        self.task.number(self.people, 4, 3)
    }
}
