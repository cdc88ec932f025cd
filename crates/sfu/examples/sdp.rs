//! Exchanges session descriptions over standard input and output with a test that runs a real
//! browser (`tests/sdp/run.mjs`).
//!
//! A request is one line of words separated by tabs. A reply is `ok` and the result, or `no` and
//! the reason. The lines of a session description are joined with the control character 0x1F.

use std::io::{self, BufRead, Write};

use parlor_sfu::sdp::{
    Candidate, Codec, Description, Downlink, Local, Opus, Publishing, Receiving, SdpError,
};

/// Maximum number of media sections of one client.
const MAX_LINES: usize = 64;

#[derive(Default)]
struct Session {
    publishing: Option<Publishing>,
    receiving: Option<Receiving>,
    streams: u32,
}

fn main() -> io::Result<()> {
    let mut session = Session::default();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words = line.split('\t').collect::<Vec<_>>();
        let reply = match session.reply(&words) {
            Ok(result) => format!("ok\t{result}"),
            Err(error) => format!("no\t{error}"),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{}", reply.replace("\r\n", "\x1f"))?;
        out.flush()?;
    }
    Ok(())
}

impl Session {
    fn reply(&mut self, words: &[&str]) -> Result<String, SdpError> {
        let candidates = [Candidate {
            address: ([127, 0, 0, 1], 9).into(),
            tcp: false,
        }];
        let local = Local {
            ufrag: "parlor",
            pwd: "parlorparlorparlorparlor",
            fingerprint: &[7; 32],
            candidates: &candidates,
            session: 7,
        };
        let opus = Opus {
            dtx: true,
            bitrate: 32_000,
        };
        let missing = SdpError::Refused("nothing was accepted");
        let read = |text: &str| Description::parse(&text.replace('\x1f', "\r\n"));
        match words {
            ["publish", offer] => {
                let (publishing, answer) = Publishing::accept(&read(offer)?, &local)?;
                self.publishing = Some(publishing);
                Ok(answer)
            }
            ["produce", offer] => {
                let publishing = self.publishing.as_mut().ok_or(missing)?;
                let (answer, uplinks) = publishing.answer(&read(offer)?, &local, opus)?;
                let mids = uplinks.into_iter().map(|uplink| uplink.mid);
                Ok(format!("{answer}\t{}", mids.collect::<Vec<_>>().join(",")))
            }
            ["receive", offer] => {
                let (receiving, answer) = Receiving::accept(&read(offer)?, &local, MAX_LINES)?;
                self.receiving = Some(receiving);
                Ok(answer)
            }
            [command, rest @ ..] => {
                let receiving = self.receiving.as_mut().ok_or(missing)?;
                match (*command, rest) {
                    ("add", [kinds]) => {
                        let mut stream = |kind| {
                            self.streams += 1;
                            Downlink {
                                codec: if kind == "audio" {
                                    Codec::Opus
                                } else {
                                    Codec::Vp8
                                },
                                stream: format!("stream{}", self.streams / 2),
                                track: format!("track{}", self.streams),
                                ssrc: 2 * self.streams,
                                rtx: Some(2 * self.streams + 1),
                            }
                        };
                        let streams = kinds.split(',').map(&mut stream).collect();
                        Ok(receiving.add(streams)?.join(","))
                    }
                    ("offer", []) => Ok(receiving.offer(&local)),
                    ("answered", [answer]) => Ok(receiving.apply_answer(&read(answer)?)?.join(",")),
                    ("close", [mids, offer]) => {
                        let mids = mids.split(',').map(str::to_owned).collect::<Vec<_>>();
                        let closed = receiving.close(&read(offer)?, &mids, &local)?;
                        Ok(format!("{}\t{}", closed.answer, closed.removed.join(",")))
                    }
                    ("withdraw", [mid]) => {
                        receiving.withdraw(mid);
                        Ok(String::new())
                    }
                    _ => Err(SdpError::Refused("no such command")),
                }
            }
            [] => Err(SdpError::Refused("no command")),
        }
    }
}
