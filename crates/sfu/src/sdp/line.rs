//! Our media lines, and the serialization of our descriptions.

use std::fmt::{Arguments, Write};
use std::net::IpAddr;

use super::codec::{Codec, Kind};
use super::description::{Direction, Format, MediaLine, Setup};
use super::extension::Extensions;
use super::{Candidate, Local, MAX_RIDS};

/// A media line of our descriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) mid: String,
    pub(super) profile: &'static str,
    /// Whether the line has port 0 and is not in the bundle.
    pub(super) rejected: bool,
    /// The direction of media, as seen by the server.
    pub(super) direction: Direction,
    pub(super) format: NegotiatedFormat,
    pub(super) extensions: Extensions,
    /// Those of `extensions` that may be used in both directions.
    pub(super) both_ways: Extensions,
    /// The simulcast layers that we accept.
    pub(super) rids: Vec<String>,
    pub(super) reduced_rtcp: bool,
    pub(super) sent: Option<SentTrack>,
}

/// The negotiated codec of a media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NegotiatedFormat {
    pub(super) payload_type: u8,
    /// `None` if the codec is not supported, on a rejected line.
    pub(super) codec: Option<Codec>,
    pub(super) rtx: Option<u8>,
    pub(super) fmtp: Vec<String>,
    pub(super) feedback: Vec<&'static str>,
}

/// The track that we send on a media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentTrack {
    pub(super) stream: String,
    pub(super) track: String,
    pub(super) ssrc: u32,
    pub(super) rtx: Option<u32>,
}

impl NegotiatedFormat {
    /// Negotiates a format of an offer.
    pub(super) fn new(offered: &Format) -> Self {
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

    /// Negotiates the most preferred supported format of a media line.
    fn best(line: &MediaLine) -> Self {
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
            .map_or(fallback, Self::new)
    }
}

impl Line {
    /// Answers a media line of the client. We never send on such a line. A line without a supported
    /// codec is rejected.
    pub(super) fn answer(offered: &MediaLine) -> Self {
        let format = NegotiatedFormat::best(offered);
        let rejected = offered.rejected || format.codec.is_none();
        let receives = offered.is_sent();
        let max_rids = if receives { MAX_RIDS } else { 0 };
        let rids = offered.rids.iter().take(max_rids);
        Self {
            kind: offered.kind,
            mid: offered.mid.clone(),
            profile: offered.profile,
            rejected,
            direction: if receives {
                Direction::RecvOnly
            } else {
                Direction::Inactive
            },
            format,
            extensions: offered.extensions.accepted(offered.kind),
            both_ways: offered.receivable,
            rids: rids.cloned().collect(),
            reduced_rtcp: offered.reduced_rtcp,
            sent: None,
        }
    }

    /// Rejects the line permanently.
    pub(super) fn reject(&mut self) {
        self.rejected = true;
        self.direction = Direction::Inactive;
        self.rids.clear();
        self.sent = None;
    }

    fn write(&self, out: &mut Out) {
        let NegotiatedFormat {
            payload_type, rtx, ..
        } = self.format;
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
            let direction = if both_ways { "" } else { "/recvonly" };
            out.line(format_args!("a=extmap:{id}{direction} {}", extension.uri()));
        }
        if let Some(sent) = &self.sent {
            out.line(format_args!("a=msid:{} {}", sent.stream, sent.track));
        }
        out.line(format_args!("a=rtcp-mux"));
        if self.reduced_rtcp {
            out.line(format_args!("a=rtcp-rsize"));
        }
        self.format.write(out);
        for rid in &self.rids {
            out.line(format_args!("a=rid:{rid} recv"));
        }
        // A single layer needs no a=simulcast.
        if self.rids.len() > 1 {
            out.line(format_args!("a=simulcast:recv {}", self.rids.join(";")));
        }
        if let Some(sent) = &self.sent {
            sent.write(out);
        }
    }
}

impl NegotiatedFormat {
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

impl SentTrack {
    fn write(&self, out: &mut Out) {
        if let Some(rtx) = self.rtx {
            out.line(format_args!("a=ssrc-group:FID {} {rtx}", self.ssrc));
        }
        for ssrc in [Some(self.ssrc), self.rtx].into_iter().flatten() {
            out.line(format_args!("a=ssrc:{ssrc} cname:{}", self.stream));
        }
    }
}

/// A description under construction.
struct Out(String);

impl Out {
    fn line(&mut self, line: Arguments<'_>) {
        self.0
            .write_fmt(line)
            .expect("writing to a String cannot fail");
        self.0.push_str("\r\n");
    }
}

/// Writes a description. `version` must increase with each description of a transport.
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
            // The candidates of the first line apply to the whole bundle (RFC 9143 section 7.1.3).
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

/// Writes host candidates: UDP before TCP, IPv6 before IPv4, and otherwise in the given order.
fn write_candidates(out: &mut Out, candidates: &[Candidate]) {
    let mut unique: Vec<(bool, IpAddr, u16)> = Vec::new();
    for Candidate { address, tcp } in candidates {
        let candidate = (*tcp, address.ip().to_canonical(), address.port());
        if !unique.contains(&candidate) {
            unique.push(candidate);
        }
    }
    // The sort is stable, which preserves the given order within each group.
    unique.sort_by_key(|(tcp, ip, _)| (*tcp, ip.is_ipv4()));
    let mut bases: Vec<(bool, IpAddr)> = Vec::new();
    for (rank, (tcp, ip, port)) in unique.into_iter().enumerate() {
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

/// Returns the priority of a host candidate of component 1 (RFC 8445 section 5.1.2.1; for TCP,
/// RFC 6544 section 4.2). The type preference of TCP is lower than that of any UDP candidate.
fn priority(tcp: bool, rank: usize) -> u32 {
    let rank = u32::try_from(rank).unwrap_or(u32::MAX);
    let (type_preference, local_preference) = if tcp {
        (90, (4 << 13) + 8191_u32.saturating_sub(rank))
    } else {
        (126, 65535_u32.saturating_sub(rank))
    };
    (type_preference << 24) + (local_preference << 8) + 255
}
