//! A media line of ours, and a description made of such.

use std::fmt::{Arguments, Write};
use std::net::IpAddr;

use super::codec::{Codec, Kind};
use super::description::{Direction, Format, MediaLine, Setup};
use super::extension::Extensions;
use super::{Candidate, Local, MAX_RIDS};

/// A media line as we say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) mid: String,
    pub(super) profile: &'static str,
    /// Port 0, out of the bundle.
    pub(super) rejected: bool,
    /// Seen from us.
    pub(super) direction: Direction,
    pub(super) agreed: Agreed,
    pub(super) extensions: Extensions,
    /// Those of them that go both ways.
    pub(super) both_ways: Extensions,
    /// The layers that we take.
    pub(super) rids: Vec<String>,
    pub(super) reduced_rtcp: bool,
    pub(super) sends: Option<Sends>,
}

/// What a payload type means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) payload_type: u8,
    /// None for what is not forwarded, on a rejected line.
    pub(super) codec: Option<Codec>,
    pub(super) rtx: Option<u8>,
    pub(super) fmtp: Vec<String>,
    pub(super) feedback: Vec<&'static str>,
}

/// What we send on a media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sends {
    pub(super) stream: String,
    pub(super) track: String,
    pub(super) ssrc: u32,
    pub(super) rtx: Option<u32>,
}

impl Agreed {
    /// What is agreed if a client offers this.
    pub(super) fn to(offered: &Format) -> Self {
        let feedback = offered.codec.map_or(&[][..], Codec::feedback).iter();
        let feedback = feedback.filter(|it| offered.feedback.contains(it));
        let fmtp = match offered.codec.map_or(&[][..], Codec::fmtp) {
            [] => offered.variant().cloned().collect(),
            ours => ours.iter().map(|&parameter| parameter.to_owned()).collect(),
        };
        Self {
            payload_type: offered.payload_type,
            codec: offered.codec,
            rtx: offered.rtx,
            fmtp,
            feedback: feedback.copied().collect(),
        }
    }

    /// What is agreed if a client prefers its formats in this order.
    fn to_best(line: &MediaLine) -> Self {
        let known = line.formats.iter().find(|format| format.codec.is_some());
        // A rejected line must still list a format of the offer.
        let fallback = Self {
            payload_type: 0,
            codec: None,
            rtx: None,
            fmtp: Vec::new(),
            feedback: Vec::new(),
        };
        known
            .or_else(|| line.formats.first())
            .map_or(fallback, Self::to)
    }
}

impl Line {
    /// The answer to a media line on which the client sends, or nobody. What is not understood is
    /// rejected.
    pub(super) fn answer(offered: &MediaLine) -> Self {
        let agreed = Agreed::to_best(offered);
        let rejected = offered.rejected || agreed.codec.is_none();
        let takes = offered.is_sent();
        let rids = offered.rids.iter().take(if takes { MAX_RIDS } else { 0 });
        Self {
            kind: offered.kind,
            mid: offered.mid.clone(),
            profile: offered.profile,
            rejected,
            direction: if takes {
                Direction::RecvOnly
            } else {
                Direction::Inactive
            },
            agreed,
            extensions: offered.extensions.taken(offered.kind),
            both_ways: offered.received,
            rids: rids.cloned().collect(),
            reduced_rtcp: offered.reduced_rtcp,
            sends: None,
        }
    }

    /// Rejects it for good.
    pub(super) fn reject(&mut self) {
        self.rejected = true;
        self.direction = Direction::Inactive;
        self.rids.clear();
        self.sends = None;
    }

    fn write(&self, out: &mut Out) {
        let Agreed {
            payload_type, rtx, ..
        } = self.agreed;
        let kind = self.kind.name();
        let port = if self.rejected { 0 } else { 9 };
        let profile = self.profile;
        match rtx {
            Some(rtx) => out.line(format_args!(
                "m={kind} {port} {profile} {payload_type} {rtx}"
            )),
            None => out.line(format_args!("m={kind} {port} {profile} {payload_type}")),
        }
        out.line(format_args!("c=IN IP4 0.0.0.0"));
        out.line(format_args!("a=mid:{}", self.mid));
        out.line(format_args!("a={}", self.direction.name()));
        for (extension, id) in self.extensions.iter() {
            let both_ways = self.both_ways.id(extension).is_some();
            let way = if both_ways { "" } else { "/recvonly" };
            out.line(format_args!("a=extmap:{id}{way} {}", extension.uri()));
        }
        if let Some(sends) = &self.sends {
            out.line(format_args!("a=msid:{} {}", sends.stream, sends.track));
        }
        out.line(format_args!("a=rtcp-mux"));
        if self.reduced_rtcp {
            out.line(format_args!("a=rtcp-rsize"));
        }
        self.agreed.write(out);
        for rid in &self.rids {
            out.line(format_args!("a=rid:{rid} recv"));
        }
        // One layer is no simulcast.
        if self.rids.len() > 1 {
            out.line(format_args!("a=simulcast:recv {}", self.rids.join(";")));
        }
        if let Some(sends) = &self.sends {
            sends.write(out);
        }
    }
}

impl Agreed {
    fn write(&self, out: &mut Out) {
        let payload_type = self.payload_type;
        let Some(codec) = self.codec else {
            return;
        };
        let (name, clock_rate) = (codec.name(), codec.clock_rate());
        match codec.channels() {
            1 => out.line(format_args!("a=rtpmap:{payload_type} {name}/{clock_rate}")),
            channels => out.line(format_args!(
                "a=rtpmap:{payload_type} {name}/{clock_rate}/{channels}"
            )),
        }
        for feedback in &self.feedback {
            out.line(format_args!("a=rtcp-fb:{payload_type} {feedback}"));
        }
        if !self.fmtp.is_empty() {
            out.line(format_args!(
                "a=fmtp:{payload_type} {}",
                self.fmtp.join(";")
            ));
        }
        if let Some(rtx) = self.rtx {
            out.line(format_args!("a=rtpmap:{rtx} rtx/{clock_rate}"));
            out.line(format_args!("a=fmtp:{rtx} apt={payload_type}"));
        }
    }
}

impl Sends {
    fn write(&self, out: &mut Out) {
        if let Some(rtx) = self.rtx {
            out.line(format_args!("a=ssrc-group:FID {} {rtx}", self.ssrc));
        }
        for ssrc in [Some(self.ssrc), self.rtx].into_iter().flatten() {
            out.line(format_args!("a=ssrc:{ssrc} cname:{}", self.stream));
        }
    }
}

/// A description that is written.
struct Out(String);

impl Out {
    fn line(&mut self, line: Arguments<'_>) {
        self.0
            .write_fmt(line)
            .expect("a String takes whatever comes");
        self.0.push_str("\r\n");
    }
}

/// A whole description of ours. `version` is higher each time.
pub(super) fn describe<'a>(
    lines: impl Iterator<Item = &'a Line> + Clone,
    setup: Setup,
    version: u64,
    local: &Local<'_>,
) -> String {
    let mut out = Out(String::with_capacity(4096));
    let session = local.session & (u64::MAX >> 1);
    out.line(format_args!("v=0"));
    out.line(format_args!("o=- {session} {version} IN IP4 0.0.0.0"));
    out.line(format_args!("s=-"));
    out.line(format_args!("t=0 0"));
    let live = lines.clone().filter(|line| !line.rejected);
    let bundle = live
        .map(|line| format!(" {}", line.mid))
        .collect::<String>();
    out.line(format_args!("a=group:BUNDLE{bundle}"));
    out.line(format_args!("a=msid-semantic: WMS *"));
    out.line(format_args!("a=ice-lite"));
    let mut candidates = local.candidates;
    for line in lines {
        line.write(&mut out);
        if !line.rejected {
            write_transport(&mut out, setup, local, candidates);
            // Those of the first are everybody's (RFC 9143 section 7.1.3).
            candidates = &[];
        }
    }
    out.0
}

fn write_transport(out: &mut Out, setup: Setup, local: &Local<'_>, candidates: &[Candidate]) {
    out.line(format_args!("a=ice-ufrag:{}", local.ufrag));
    out.line(format_args!("a=ice-pwd:{}", local.pwd));
    let hex = local
        .fingerprint
        .map(|byte| format!("{byte:02X}"))
        .join(":");
    out.line(format_args!("a=fingerprint:sha-256 {hex}"));
    out.line(match setup {
        Setup::ActPass => format_args!("a=setup:actpass"),
        Setup::Active => format_args!("a=setup:active"),
        Setup::Passive => format_args!("a=setup:passive"),
    });
    if !candidates.is_empty() {
        write_candidates(out, candidates);
        out.line(format_args!("a=end-of-candidates"));
    }
}

/// Writes host candidates: UDP before TCP, IPv6 before IPv4, and else in the order given.
fn write_candidates(out: &mut Out, candidates: &[Candidate]) {
    let mut told: Vec<(bool, IpAddr, u16)> = Vec::new();
    for Candidate { address, tcp } in candidates {
        let candidate = (*tcp, address.ip().to_canonical(), address.port());
        if !told.contains(&candidate) {
            told.push(candidate);
        }
    }
    // Stable, so that the order given decides between those of a kind.
    told.sort_by_key(|(tcp, ip, _)| (*tcp, ip.is_ipv4()));
    let mut bases: Vec<(bool, IpAddr)> = Vec::new();
    for (rank, (tcp, ip, port)) in told.into_iter().enumerate() {
        let known = bases.iter().position(|base| *base == (tcp, ip));
        // Candidates of one address and protocol share a foundation (RFC 8445 section 5.1.1.3).
        let foundation = known.unwrap_or(bases.len()) + 1;
        if known.is_none() {
            bases.push((tcp, ip));
        }
        let priority = priority(tcp, rank);
        let (protocol, tail) = if tcp {
            ("tcp", " tcptype passive")
        } else {
            ("udp", "")
        };
        out.line(format_args!(
            "a=candidate:{foundation} 1 {protocol} {priority} {ip} {port} typ host{tail}"
        ));
    }
}

/// The priority of a host candidate of component 1: RFC 8445 section 5.1.2.1, and for TCP that of
/// RFC 6544 section 4.2, with a type preference below every kind of UDP.
fn priority(tcp: bool, rank: usize) -> u32 {
    let behind = u32::try_from(rank).unwrap_or(u32::MAX);
    let (kind, local) = if tcp {
        (90, (4 << 13) + 8191_u32.saturating_sub(behind))
    } else {
        (126, 65535_u32.saturating_sub(behind))
    };
    (kind << 24) + (local << 8) + 255
}
