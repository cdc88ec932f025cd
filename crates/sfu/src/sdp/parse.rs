//! The SDP parser: RFC 8866, and the RFCs that define the attributes.

use std::collections::{HashMap, HashSet};

use super::codec::{Codec, Kind};
use super::description::{Description, Direction, Format, MediaLine, Setup};
use super::extension::{Extension, Extensions};
use super::{MAX_BYTES, MAX_LINES, MAX_MEDIA, SdpError, is_token};

/// Maximum number of SSRCs on a media line. Three layers with retransmissions use six.
const MAX_SSRCS: usize = 32;

/// Maximum number of rids on a media line. Browsers send three.
const MAX_OFFERED_RIDS: usize = 16;

/// Maximum number of parameters in one `a=fmtp`, and their maximum total size in bytes.
const MAX_PARAMETERS: usize = 16;
const MAX_PARAMETER_BYTES: usize = 256;

/// Maximum length of a mid or rid, in bytes: the limit of a one-byte header extension.
const MAX_NAME: usize = 16;

/// Maximum length of each part of an `a=msid`, RFC 8830.
const MAX_MSID: usize = 64;

const NOT_SDP: &str = "this is not SDP";

/// The protocols for DTLS-SRTP with feedback, which RFC 8829 section 5.1.2 requires implementations
/// to accept.
const PROFILES: [&str; 2] = ["UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF"];

/// The attributes that are allowed at both session and media level.
#[derive(Default)]
struct SharedAttributes<'a> {
    ufrag: Option<&'a str>,
    pwd: Option<&'a str>,
    fingerprint: Option<[u8; 32]>,
    setup: Option<Setup>,
    direction: Option<Direction>,
    rtcp_mux: bool,
}

/// A media section during parsing.
struct Section<'a> {
    shared: SharedAttributes<'a>,
    line: MediaLine,
    bundle_only: bool,
    port: u16,
    /// The feedback types for all formats, from `a=rtcp-fb:*`.
    feedback: Vec<&'static str>,
    declared_rids: Vec<&'a str>,
    simulcast: Option<&'a str>,
}

type Problem = Result<(), &'static str>;

/// Parses a description.
pub(super) fn description(text: &str) -> Result<Description, SdpError> {
    if text.len() > MAX_BYTES {
        return Err(SdpError::TooMuch {
            limit: MAX_BYTES,
            of: "bytes",
        });
    }
    let mut session = SharedAttributes::default();
    let mut ice_lite = false;
    let mut bundle = None;
    let mut sections: Vec<Section> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if number > MAX_LINES {
            return Err(SdpError::TooMuch {
                limit: MAX_LINES,
                of: "lines",
            });
        }
        let at = |problem| SdpError::Line { number, problem };
        if line.is_empty() && index > 0 {
            continue;
        }
        let (key, value) = split(line).ok_or_else(|| at(NOT_SDP))?;
        if (index == 0) != (key == 'v') || (index == 0 && value != "0") {
            return Err(at(NOT_SDP));
        }
        let (name, argument) = value.split_once(':').unwrap_or((value, ""));
        if key == 'm' {
            if sections.len() == MAX_MEDIA {
                return Err(SdpError::TooMuch {
                    limit: MAX_MEDIA,
                    of: "media lines",
                });
            }
            sections.push(Section::parse(value).map_err(at)?);
            continue;
        }
        match (key, sections.last_mut()) {
            ('a', None) if name == "ice-lite" => ice_lite = true,
            ('a', None) if name == "group" => {
                if let Some(mids) = argument.strip_prefix("BUNDLE") {
                    if bundle.is_some() {
                        return Err(at("all media must be in one bundle"));
                    }
                    bundle = Some(mids);
                }
            }
            ('a', None) => session.attribute(name, argument).map_err(at)?,
            ('a', Some(section)) => section.attribute(name, argument).map_err(at)?,
            _ => {}
        }
    }
    assemble(&session, ice_lite, bundle.unwrap_or_default(), sections)
}

/// Splits a line into key and value. Rejects control characters, so that no client input can break
/// the lines that we write.
fn split(line: &str) -> Option<(char, &str)> {
    let (key, value) = line.split_once('=')?;
    let mut keys = key.chars();
    let first = keys.next().filter(char::is_ascii_lowercase)?;
    let printable = !value.chars().any(|c| c.is_control() && c != '\t');
    (keys.next().is_none() && printable).then_some((first, value))
}

fn assemble(
    session: &SharedAttributes<'_>,
    ice_lite: bool,
    bundle: &str,
    mut sections: Vec<Section<'_>>,
) -> Result<Description, SdpError> {
    let bundled = bundle.split_ascii_whitespace().collect::<HashSet<_>>();
    let mut mids = HashSet::new();
    let mut accepted = 0_usize;
    for section in &mut sections {
        section.finish(session);
        let line = &section.line;
        if line.mid.is_empty() {
            return Err(SdpError::Missing("a=mid on each media line"));
        }
        if !mids.insert(line.mid.as_str()) {
            return Err(SdpError::media(&line.mid, "the mid is not unique"));
        }
        accepted += usize::from(!line.rejected);
    }
    let is_bundled = |line: &MediaLine| bundled.contains(line.mid.as_str());
    let unbundled = sections
        .iter()
        .find(|section| !section.line.rejected && !is_bundled(&section.line));
    if let Some(section) = unbundled
        && accepted > 1
    {
        return Err(SdpError::media(
            &section.line.mid,
            "the media line is not in the bundle",
        ));
    }
    // The first line of the bundle group carries the transport attributes (RFC 9143 section 7.1).
    let by_mid = sections.iter().filter(|section| !section.line.rejected);
    let by_mid = by_mid.map(|section| (section.line.mid.as_str(), section));
    let by_mid = by_mid.collect::<HashMap<_, _>>();
    let mut group = bundle.split_ascii_whitespace();
    let tagged = group.find_map(|mid| by_mid.get(mid).copied());
    let tagged = tagged.or(unbundled);
    let Some(Section { shared, .. }) = tagged else {
        return Err(SdpError::Refused("all media lines are rejected"));
    };
    if !shared.rtcp_mux {
        return Err(SdpError::Missing("a=rtcp-mux"));
    }
    let missing = SdpError::Missing;
    let ufrag = shared.ufrag.or(session.ufrag);
    let pwd = shared.pwd.or(session.pwd);
    let fingerprint = shared.fingerprint.or(session.fingerprint);
    let setup = shared.setup.or(session.setup);
    Ok(Description {
        ice_ufrag: ufrag.ok_or(missing("a=ice-ufrag"))?.to_owned(),
        ice_pwd: pwd.ok_or(missing("a=ice-pwd"))?.to_owned(),
        ice_lite,
        fingerprint: fingerprint.ok_or(missing("a=fingerprint of sha-256"))?,
        setup: setup.ok_or(missing("a=setup"))?,
        media: sections.into_iter().map(|section| section.line).collect(),
    })
}

impl<'a> SharedAttributes<'a> {
    fn attribute(&mut self, name: &str, argument: &'a str) -> Problem {
        match name {
            "ice-ufrag" => self.ufrag = Some(ice(argument, 4)?),
            "ice-pwd" => self.pwd = Some(ice(argument, 22)?),
            "fingerprint" => {
                // There may be one for each hash algorithm.
                if let Some(fingerprint) = fingerprint(argument)? {
                    self.fingerprint = Some(fingerprint);
                }
            }
            "setup" => {
                self.setup = Some(match argument {
                    "actpass" => Setup::ActPass,
                    "active" => Setup::Active,
                    "passive" => Setup::Passive,
                    _ => return Err("a=setup must be actpass, active or passive"),
                });
            }
            "sendrecv" => self.direction = Some(Direction::SendRecv),
            "sendonly" => self.direction = Some(Direction::SendOnly),
            "recvonly" => self.direction = Some(Direction::RecvOnly),
            "inactive" => self.direction = Some(Direction::Inactive),
            "rtcp-mux" => self.rtcp_mux = true,
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Section<'a> {
    /// Parses the value of an `m=` line.
    fn parse(value: &str) -> Result<Self, &'static str> {
        let mut words = value.split_ascii_whitespace();
        let kind = match words.next() {
            Some("audio") => Kind::Audio,
            Some("video") => Kind::Video,
            Some("application") => return Err("data channels are not supported"),
            _ => return Err("media must be audio or video"),
        };
        let port = words.next().and_then(|port| port.parse().ok());
        let port = port.ok_or("the port must be a number")?;
        let profile = words.next();
        let profile = PROFILES.into_iter().find(|known| profile == Some(known));
        let profile = profile.ok_or("the protocol must be UDP/TLS/RTP/SAVPF")?;
        let mut formats: Vec<Format> = Vec::new();
        let mut listed = 0_u128;
        for word in words {
            let payload_type = payload_type(word)?;
            let bit = 1 << payload_type;
            if listed & bit == 0 {
                listed |= bit;
                formats.push(Format::unnamed(payload_type));
            }
        }
        if formats.is_empty() {
            return Err("a media line needs a payload type");
        }
        let line = MediaLine {
            kind,
            mid: String::new(),
            profile,
            rejected: false,
            direction: Direction::SendRecv,
            formats,
            extensions: Extensions::default(),
            receivable: Extensions::default(),
            rids: Vec::new(),
            ssrcs: Vec::new(),
            rtx_ssrcs: Vec::new(),
            msid: None,
            reduced_rtcp: false,
        };
        Ok(Self {
            shared: SharedAttributes::default(),
            line,
            bundle_only: false,
            port,
            feedback: Vec::new(),
            declared_rids: Vec::new(),
            simulcast: None,
        })
    }

    fn attribute(&mut self, name: &str, argument: &'a str) -> Problem {
        let line = &mut self.line;
        match name {
            "mid" => {
                if !is_token(argument, MAX_NAME) {
                    return Err("a=mid must be a token of at most 16 characters");
                }
                argument.clone_into(&mut line.mid);
            }
            "bundle-only" => self.bundle_only = true,
            "rtcp-rsize" => line.reduced_rtcp = true,
            "rtpmap" => line.rtpmap(argument)?,
            "fmtp" => {
                let (payload_type, parameters) = split_payload_type(argument)?;
                let parameters = split_parameters(parameters)?;
                if let Some(format) = line.format(payload_type) {
                    format.fmtp = parameters;
                }
            }
            "rtcp-fb" => self.feedback(argument)?,
            "extmap" => line.extmap(argument)?,
            "rid" => {
                let mut words = argument.split_ascii_whitespace();
                if let (Some(rid), Some("send")) = (words.next(), words.next()) {
                    if self.declared_rids.len() == MAX_OFFERED_RIDS {
                        return Err("the media line has more than 16 rids");
                    }
                    self.declared_rids.push(rid);
                }
            }
            "simulcast" => {
                let mut words = argument.split_ascii_whitespace();
                let layers = words.find(|word| *word == "send").and(words.next());
                if layers.is_some_and(|list| list.split(';').nth(MAX_OFFERED_RIDS).is_some()) {
                    return Err("the media line has more than 16 rids");
                }
                self.simulcast = layers;
            }
            "ssrc" => line.ssrc(argument)?,
            "ssrc-group" => line.ssrc_group(argument)?,
            "msid" if line.msid.is_none() => line.msid = msid(argument),
            _ => self.shared.attribute(name, argument)?,
        }
        Ok(())
    }

    /// Completes the media line once all attributes are parsed.
    fn finish(&mut self, session: &SharedAttributes<'_>) {
        let line = &mut self.line;
        line.rejected = self.port == 0 && !self.bundle_only;
        let direction = self.shared.direction.or(session.direction);
        line.direction = direction.unwrap_or(Direction::SendRecv);
        line.pair_formats();
        for format in &mut line.formats {
            let known = format.codec.map_or(&[][..], Codec::feedback);
            format.feedback.retain(|feedback| known.contains(feedback));
            for feedback in self.feedback.iter().filter(|it| known.contains(it)) {
                push_unique(&mut format.feedback, feedback);
            }
        }
        let rtx_ssrcs = line.rtx_ssrcs.iter().map(|(_, rtx)| *rtx);
        let rtx_ssrcs = rtx_ssrcs.collect::<Vec<_>>();
        line.ssrcs.retain(|ssrc| !rtx_ssrcs.contains(ssrc));
        // Take the first alternative of each layer. A tilde marks an initially paused one (RFC
        // 8853).
        let listed = self.simulcast.map(|list| {
            let layers = list.split(';');
            let first = layers.filter_map(|layer| layer.split(',').next());
            first.map(|rid| rid.trim_start_matches('~')).collect()
        });
        let listed = listed.unwrap_or_else(|| self.declared_rids.clone());
        for rid in listed {
            let valid = rid.len() <= MAX_NAME
                && rid
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            let known = self.declared_rids.contains(&rid);
            if valid && known && !line.rids.iter().any(|listed| listed == rid) {
                line.rids.push(rid.to_owned());
            }
        }
    }

    /// Parses `a=rtcp-fb`. It may precede the `a=rtpmap` of its payload type, so types that no
    /// codec supports are dropped here, and those that this codec does not support are dropped in
    /// [`Section::finish`].
    fn feedback(&mut self, argument: &str) -> Problem {
        let (target, feedback) = argument
            .split_once(' ')
            .ok_or("a=rtcp-fb needs a feedback type")?;
        let feedback = Codec::find_feedback(feedback.trim());
        let known = match target {
            "*" => Some(&mut self.feedback),
            number => {
                let format = self.line.format(payload_type(number)?);
                format.map(|format| &mut format.feedback)
            }
        };
        if let (Some(known), Some(feedback)) = (known, feedback) {
            push_unique(known, feedback);
        }
        Ok(())
    }
}

impl MediaLine {
    /// Returns the format with this payload type.
    fn format(&mut self, payload_type: u8) -> Option<&mut Format> {
        let mut formats = self.formats.iter_mut();
        formats.find(|format| format.payload_type == payload_type)
    }

    fn rtpmap(&mut self, argument: &str) -> Problem {
        let (payload_type, encoding) = split_payload_type(argument)?;
        let mut parts = encoding.split('/');
        let name = parts.next().filter(|name| is_token(name, 64));
        let name = name.ok_or("a=rtpmap needs a name")?;
        let clock_rate = parts.next().and_then(|rate| rate.trim().parse().ok());
        let clock_rate = clock_rate.ok_or("a=rtpmap needs a clock rate")?;
        let channels = parts.next().map_or(Ok(1), |it| it.trim().parse());
        let channels = channels.map_err(|_| "the channels in a=rtpmap must be a number")?;
        let kind = self.kind;
        if let Some(format) = self.format(payload_type) {
            format.codec = Codec::find(kind, name, clock_rate, channels);
            name.clone_into(&mut format.name);
            format.clock_rate = clock_rate;
            format.channels = channels;
        }
        Ok(())
    }

    fn extmap(&mut self, argument: &str) -> Problem {
        let mut words = argument.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else {
            return Err("a=extmap needs an id and a URI");
        };
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        // Ids from 4096 on are only requests for negotiation (RFC 8285 section 5). They are
        // ignored, as are unknown extensions.
        if let (Ok(id), Some(extension)) = (id.parse(), Extension::from_uri(uri)) {
            if matches!(direction, "sendrecv" | "sendonly") {
                self.extensions.insert(extension, id);
            }
            if matches!(direction, "sendrecv" | "recvonly") {
                self.receivable.insert(extension, id);
            }
        }
        Ok(())
    }

    fn ssrc(&mut self, argument: &str) -> Problem {
        let number = argument.split(' ').next().unwrap_or_default();
        let ssrc = number.parse().map_err(|_| "an SSRC must be a number")?;
        if !self.ssrcs.contains(&ssrc) {
            if self.ssrcs.len() == MAX_SSRCS {
                return Err("the media line has more than 32 SSRCs");
            }
            self.ssrcs.push(ssrc);
        }
        Ok(())
    }

    fn ssrc_group(&mut self, argument: &str) -> Problem {
        let Some(pair) = argument.strip_prefix("FID ") else {
            return Ok(());
        };
        let mut pair = pair.split_ascii_whitespace().map(str::parse);
        let (Some(Ok(media)), Some(Ok(rtx)), None) = (pair.next(), pair.next(), pair.next()) else {
            return Err("an FID group needs two SSRCs");
        };
        if self.rtx_ssrcs.len() == MAX_SSRCS {
            return Err("the media line has more than 32 SSRC groups");
        }
        if media != rtx && !self.rtx_ssrcs.contains(&(media, rtx)) {
            self.rtx_ssrcs.push((media, rtx));
        }
        Ok(())
    }

    /// Assigns RTX payload types to the formats that they retransmit, RFC 4588 section 8.
    fn pair_formats(&mut self) {
        let retransmits = self.formats.iter().filter_map(|format| {
            let rtx = format.name.eq_ignore_ascii_case("rtx");
            let apt = format.parameter("apt").filter(|_| rtx)?;
            Some((apt.parse().ok()?, format.payload_type))
        });
        for (payload_type, rtx) in retransmits.collect::<Vec<(u8, u8)>>() {
            let format = self.format(payload_type);
            if let Some(format) = format.filter(|format| format.codec.is_some()) {
                format.rtx.get_or_insert(rtx);
            }
        }
    }
}

impl Format {
    fn unnamed(payload_type: u8) -> Self {
        Self {
            payload_type,
            codec: None,
            name: String::new(),
            clock_rate: 0,
            channels: 1,
            fmtp: Vec::new(),
            feedback: Vec::new(),
            rtx: None,
        }
    }
}

/// Splits the parameters of an `a=fmtp`.
fn split_parameters(parameters: &str) -> Result<Vec<String>, &'static str> {
    if parameters.len() > MAX_PARAMETER_BYTES {
        return Err("a=fmtp has more than 256 bytes");
    }
    let split = parameters.split(';').map(str::trim);
    let split = split.filter(|parameter| !parameter.is_empty());
    if split.clone().nth(MAX_PARAMETERS).is_some() {
        return Err("a=fmtp has more than 16 parameters");
    }
    Ok(split.map(str::to_owned).collect())
}

/// Adds a feedback type unless the list already contains it.
fn push_unique(list: &mut Vec<&'static str>, feedback: &'static str) {
    if !list.contains(&feedback) {
        list.push(feedback);
    }
}

fn payload_type(word: &str) -> Result<u8, &'static str> {
    let number = word.parse().ok().filter(|number| *number <= 127);
    number.ok_or("a payload type must be a number up to 127")
}

/// Splits an argument into the payload type and the rest.
fn split_payload_type(argument: &str) -> Result<(u8, &str), &'static str> {
    let (number, rest) = argument.split_once(' ').ok_or(NOT_SDP)?;
    Ok((payload_type(number)?, rest.trim()))
}

/// Checks an ICE user name fragment or password, RFC 8839 section 5.4.
fn ice(text: &str, min_length: usize) -> Result<&str, &'static str> {
    let valid = (min_length..=256).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    valid
        .then_some(text)
        .ok_or("invalid ICE user name fragment or password")
}

/// Parses a certificate fingerprint, RFC 8122. Returns `None` if the hash is not SHA-256.
fn fingerprint(argument: &str) -> Result<Option<[u8; 32]>, &'static str> {
    let (hash, hex) = argument
        .split_once(' ')
        .ok_or("a=fingerprint needs a hash")?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return Ok(None);
    }
    let bytes = hex.trim().split(':').map(|byte| {
        let valid = byte.len() == 2 && byte.bytes().all(|b| b.is_ascii_hexdigit());
        valid.then(|| u8::from_str_radix(byte, 16).ok()).flatten()
    });
    let bytes = bytes.collect::<Option<Vec<_>>>();
    let fingerprint = bytes.and_then(|bytes| bytes.try_into().ok());
    fingerprint
        .map(Some)
        .ok_or("a sha-256 fingerprint has 32 hexadecimal bytes")
}

fn msid(argument: &str) -> Option<(String, String)> {
    let mut words = argument.split_ascii_whitespace();
    let stream = words.next().filter(|stream| is_token(stream, MAX_MSID))?;
    let track = words.next().unwrap_or("-");
    let track = Some(track).filter(|track| is_token(track, MAX_MSID))?;
    Some((stream.to_owned(), track.to_owned()))
}
