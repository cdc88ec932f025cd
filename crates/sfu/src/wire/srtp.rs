//! SRTP and SRTCP: encryption and authentication of RTP and RTCP (RFC 3711), with AES-GCM
//! (RFC 7714) and the profile that everybody has, with keys from DTLS (RFC 5764).
//!
//! Keys are derived once; the key derivation rate is 0, as DTLS-SRTP requires. There are no master
//! key identifiers. SRTCP has to be encrypted (RFC 8827 section 6.5 leaves no choice in browsers).

use std::fmt;

use aws_lc_rs::error::Unspecified;

use super::be32;
use super::rtp::Header;

mod cipher;
mod replay;

#[cfg(test)]
mod tests;

use cipher::{Cipher, TAG_MAX};
use replay::Streams;

/// Where the payload of an RTCP packet begins: the first SSRC is not encrypted.
const RTCP_HEADER: usize = 8;
/// The bit of the SRTCP index field that says that the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// The first index that does not fit: 48 bits for SRTP.
const RTP_INDICES: u64 = 1 << 48;

/// How packets are protected. DTLS agrees on it by `use_srtp` (RFC 5764 section 4.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`, 0x0007: the fastest.
    Aead128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`, 0x0008.
    Aead256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`, 0x0001: what everybody has, and several times slower.
    AesCm128Sha1_80,
}

impl Profile {
    /// How many bytes of keying material to export from DTLS: two keys and two salts.
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// How many bytes longer an RTP packet gets.
    pub const fn rtp_overhead(self) -> usize {
        match self {
            Self::Aead128Gcm | Self::Aead256Gcm => 16,
            Self::AesCm128Sha1_80 => 10,
        }
    }

    /// How many bytes longer a compound of RTCP packets gets: the index takes four.
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + 4
    }

    const fn key_len(self) -> usize {
        match self {
            Self::Aead128Gcm | Self::AesCm128Sha1_80 => 16,
            Self::Aead256Gcm => 32,
        }
    }

    const fn salt_len(self) -> usize {
        match self {
            Self::Aead128Gcm | Self::Aead256Gcm => 12,
            Self::AesCm128Sha1_80 => 14,
        }
    }
}

/// Keying material that is not as long as the profile needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{got} bytes of keying material where the profile needs {needed}")]
pub struct BadKey {
    /// How many bytes there were.
    pub got: usize,
    /// How many there have to be: [`Profile::keying_material_len`].
    pub needed: usize,
}

/// Makes both ends of a transport from the keying material that DTLS exports, in the order of
/// RFC 5764 section 4.2: client's key, server's key, client's salt, server's salt. We seal with the
/// keys of our own role in DTLS and open with those of the other.
pub fn pair(
    profile: Profile,
    keying_material: &[u8],
    we_are_server: bool,
) -> Result<(Sealer, Opener), BadKey> {
    let bad = BadKey {
        got: keying_material.len(),
        needed: profile.keying_material_len(),
    };
    if bad.got != bad.needed {
        return Err(bad);
    }
    let (keys, salts) = keying_material
        .split_at_checked(2 * profile.key_len())
        .ok_or(bad)?;
    let (client_key, server_key) = keys.split_at_checked(profile.key_len()).ok_or(bad)?;
    let (client_salt, server_salt) = salts.split_at_checked(profile.salt_len()).ok_or(bad)?;
    let client = || Master::new(profile, client_key, client_salt).ok_or(bad);
    let server = || Master::new(profile, server_key, server_salt).ok_or(bad);
    let (ours, theirs) = if we_are_server {
        (server()?, client()?)
    } else {
        (client()?, server()?)
    };
    Ok((Sealer::new(ours), Opener::new(theirs)))
}

/// What is derived from one master key and its salt.
struct Master {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
}

impl Master {
    fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Option<Self> {
        // Labels by RFC 3711 section 4.3.1 and 4.3.2.
        Some(Self {
            profile,
            rtp: Cipher::derive(profile, key, salt, [0, 1, 2]).ok()?,
            rtcp: Cipher::derive(profile, key, salt, [3, 4, 5]).ok()?,
        })
    }
}

/// Protects what we send.
pub struct Sealer {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    /// The index of the next SRTCP packet. One for all streams: it only may not repeat for any.
    rtcp_index: u32,
}

impl Sealer {
    fn new(master: Master) -> Self {
        Self {
            profile: master.profile,
            rtp: master.rtp,
            rtcp: master.rtcp,
            rtcp_index: 1,
        }
    }

    /// How many bytes longer [`seal_rtp`](Self::seal_rtp) makes a packet. For
    /// [`seal_rtcp`](Self::seal_rtcp) it is four more.
    pub const fn overhead(&self) -> usize {
        self.profile.rtp_overhead()
    }

    /// Encrypts in place and appends the tag. From `start` on `packet` holds one RTP packet and
    /// nothing after it: a header of `header_len` bytes, and the payload. What stands before `start`
    /// is left alone, so that packets can be put one after the other.
    ///
    /// `index` is the sequence number with the number of its wraps above its 16 bits; 48 bits are
    /// used. **It must not repeat** for the same SSRC with other content: in GCM that would give the
    /// keys away. To send the same packet again, seal the very same bytes.
    ///
    /// Should the packet be shorter than its header, or `index` be used up, nothing is left from
    /// `start` on: there is nothing that could be sent.
    pub fn seal_rtp(&self, packet: &mut Vec<u8>, start: usize, header_len: usize, index: u64) {
        let room = packet.len() + self.profile.rtp_overhead();
        packet.resize(room, 0);
        let sealed = packet
            .get_mut(start..)
            .and_then(|rtp| self.seal_rtp_within(rtp, header_len, index).ok());
        if sealed.is_none() {
            packet.truncate(start);
        }
    }

    fn seal_rtp_within(
        &self,
        rtp: &mut [u8],
        header_len: usize,
        index: u64,
    ) -> Result<(), Unspecified> {
        let ssrc = be32(rtp, 8).ok_or(Unspecified)?;
        let (header, rest) = rtp.split_at_mut_checked(header_len).ok_or(Unspecified)?;
        if header_len < 12 || index >= RTP_INDICES {
            return Err(Unspecified);
        }
        self.rtp.seal_rtp(ssrc, index, header, rest)
    }

    /// Encrypts in place and appends what belongs behind it. From `start` on `packet` holds one
    /// compound of RTCP packets and nothing after it.
    ///
    /// Should it be shorter than a header, or all 2^31 indices be used up, nothing is left from
    /// `start` on.
    pub fn seal_rtcp(&mut self, packet: &mut Vec<u8>, start: usize) {
        let sealed = self.seal_rtcp_at(packet, start);
        if sealed.is_err() {
            packet.truncate(start);
        }
    }

    fn seal_rtcp_at(&mut self, packet: &mut Vec<u8>, start: usize) -> Result<(), Unspecified> {
        let index = self.rtcp_index;
        if index & ENCRYPTED != 0 {
            return Err(Unspecified);
        }
        packet.resize(packet.len() + self.profile.rtcp_overhead(), 0);
        let rtcp = packet.get_mut(start..).ok_or(Unspecified)?;
        let ssrc = be32(rtcp, 4).ok_or(Unspecified)?;
        self.rtcp.seal_rtcp(ssrc, index | ENCRYPTED, rtcp)?;
        self.rtcp_index += 1;
        Ok(())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// An RTP packet that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its header.
    pub header: Header,
    /// Its sequence number, with the number of its wraps above the 16 bits.
    pub index: u64,
    /// Where its payload ends, without the tag. Padding is still in it: see [`Header::unpadded`].
    pub end: usize,
}

/// Opens what the other side sends, once each.
///
/// It keeps for every stream how far it is, and which of the last 1024 packets came. There may be 64
/// streams. A further one takes the place of the one that is unused for longest, if 4096 packets of
/// others came since, and is refused otherwise. Nothing changes before a packet is authenticated.
pub struct Opener {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_streams: Streams,
    rtcp_streams: Streams,
}

impl Opener {
    fn new(master: Master) -> Self {
        Self {
            profile: master.profile,
            rtp: master.rtp,
            rtcp: master.rtcp,
            rtp_streams: Streams::default(),
            rtcp_streams: Streams::default(),
        }
    }

    /// Decrypts an SRTP packet in place. `None` when it is not RTP, not authentic, was there before,
    /// is older than the window, or is of one stream too many; its bytes are then worthless.
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Option<Opened> {
        let header = Header::parse(packet)?;
        let (known, index) = self.rtp_streams.place_rtp(header.ssrc, header.sequence)?;
        if index >= RTP_INDICES {
            return None;
        }
        let end = packet.len().checked_sub(self.profile.rtp_overhead())?;
        let (head, rest) = packet.split_at_mut_checked(header.payload)?;
        self.rtp.open_rtp(header.ssrc, index, head, rest).ok()?;
        self.rtp_streams.came(known, header.ssrc, index);
        Some(Opened { header, index, end })
    }

    /// Decrypts an SRTCP packet in place and gives the compound in it. `None` when it is not
    /// authentic, not encrypted, was there before, is older than the window, or is of one stream too
    /// many; its bytes are then worthless.
    pub fn open_rtcp<'a>(&mut self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let end = packet.len().checked_sub(self.profile.rtcp_overhead())?;
        if end < RTCP_HEADER || packet.first()? >> 6 != 2 {
            return None;
        }
        let ssrc = be32(packet, 4)?;
        let field = self.rtcp.rtcp_index(packet)?;
        if field & ENCRYPTED == 0 {
            return None;
        }
        let index = u64::from(field & !ENCRYPTED);
        let known = self.rtcp_streams.place(ssrc, index)?;
        self.rtcp.open_rtcp(ssrc, field, packet).ok()?;
        self.rtcp_streams.came(known, ssrc, index);
        packet.get(..end)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("profile", &self.profile)
            .field("rtp_streams", &self.rtp_streams.len())
            .field("rtcp_streams", &self.rtcp_streams.len())
            .finish_non_exhaustive()
    }
}

const _: () = assert!(TAG_MAX >= Profile::Aead128Gcm.rtp_overhead());
