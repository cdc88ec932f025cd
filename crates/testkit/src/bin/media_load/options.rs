//! What is asked for.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

pub(crate) const HELP: &str = "\
Load on the media plane of a real server: synthetic publishers and subscribers.

  media_load MODE… [OPTION…]

Modes
  video      publishers of VP8 in packets of 1,100 bytes; every subscriber receives all of them
  audio      publishers of Opus; with --talking only some of them speak, the others have DTX
  peers      people who only connect: memory of each, and how long each phase of coming takes
  floor      the same packets forwarded in clear by a loop of 30 lines: what the kernel alone costs
  memory     an engine without sockets: instructions and nanoseconds per packet
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
  --quick               a smoke run of a few seconds: its figures say nothing
";

/// Every mode.
pub(crate) const MODES: [&str; 6] = ["video", "audio", "peers", "floor", "memory", "compare"];

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
    pub(crate) modes: Vec<String>,
    pub(crate) servers: Vec<Kind>,
    pub(crate) binary: Option<PathBuf>,
    pub(crate) arguments: Vec<String>,
    pub(crate) janus_script: PathBuf,
    pub(crate) janus_loops: usize,
    publishers: Option<usize>,
    subscribers: Option<usize>,
    talking: Option<usize>,
    pub(crate) kbps: u32,
    pub(crate) is_simulcast: bool,
    count: Option<usize>,
    pub(crate) room: usize,
    seconds: Option<u64>,
    pub(crate) sample: u64,
    pub(crate) most: Option<f64>,
    pub(crate) is_quick: bool,
}

impl Options {
    /// Reads the arguments; `None` asks for the help text.
    pub(crate) fn from_arguments(
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Self>> {
        let mut options = Self {
            modes: Vec::new(),
            servers: Vec::new(),
            binary: None,
            arguments: Vec::new(),
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
            is_quick: false,
        };
        while let Some(name) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{name} needs a value"))
            };
            match name.as_str() {
                "--help" | "-h" => return Ok(None),
                "--server" => options.servers.push(match value()?.as_str() {
                    "parlor" => Kind::Parlor,
                    "janus" => Kind::Janus,
                    other => bail!("no server {other}"),
                }),
                "--server-binary" => options.binary = Some(value()?.into()),
                "--server-argument" => options.arguments.push(value()?),
                "--janus-script" => options.janus_script = value()?.into(),
                "--janus-loops" => options.janus_loops = value()?.parse()?,
                "--publishers" => options.publishers = Some(value()?.parse()?),
                "--subscribers" => options.subscribers = Some(value()?.parse()?),
                "--talking" => options.talking = Some(value()?.parse()?),
                "--kbps" => options.kbps = value()?.parse()?,
                "--simulcast" => options.is_simulcast = true,
                "--count" => options.count = Some(value()?.parse()?),
                "--room" => options.room = value()?.parse::<usize>()?.max(1),
                "--seconds" => options.seconds = Some(value()?.parse()?),
                "--sample" => options.sample = value()?.parse()?,
                "--most" => options.most = Some(value()?.parse()?),
                "--quick" => options.is_quick = true,
                mode if MODES.contains(&mode) => options.modes.push(mode.to_owned()),
                other => bail!("no mode or option {other}\n\n{HELP}"),
            }
        }
        if options.modes.is_empty() {
            return Ok(None);
        }
        ensure!((1..=20_000).contains(&options.kbps), "--kbps is 1 to 20000");
        if options.servers.is_empty() {
            options.servers.push(Kind::Parlor);
        }
        Ok(Some(options))
    }

    fn number(&self, asked: Option<usize>, usual: usize, quick: usize) -> usize {
        let usual = if self.is_quick { quick } else { usual };
        asked.unwrap_or(usual).max(1)
    }

    pub(crate) fn video_publishers(&self) -> usize {
        self.number(self.publishers, 1, 1)
    }

    pub(crate) fn video_subscribers(&self) -> usize {
        self.number(self.subscribers, 100, 5)
    }

    pub(crate) fn audio_publishers(&self) -> usize {
        self.number(self.publishers, 10, 3)
    }

    pub(crate) fn audio_subscribers(&self) -> usize {
        self.number(self.subscribers, 100, 5)
    }

    pub(crate) fn talking(&self) -> usize {
        self.talking.unwrap_or(usize::MAX)
    }

    pub(crate) fn peers(&self) -> usize {
        self.number(self.count, 100, 6)
    }

    pub(crate) fn seconds(&self) -> u64 {
        let usual = if self.is_quick { 2 } else { 10 };
        self.seconds.unwrap_or(usual).max(1)
    }
}
