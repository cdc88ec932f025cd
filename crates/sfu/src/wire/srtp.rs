//! SRTP and SRTCP (RFC 3711) with keys from DTLS (RFC 5764). Supports AES-GCM (RFC 7714) and the
//! mandatory profile, AES in counter mode with HMAC-SHA1.
//!
//! Keys are derived once, since DTLS-SRTP requires a key derivation rate of 0. Master key
//! identifiers are not supported. SRTCP must be encrypted, as RFC 8827 section 6.5 requires of
//! browsers.

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

/// Length of the unencrypted header of an RTCP compound, including the first SSRC, in bytes.
const RTCP_HEADER: usize = 8;
/// The E flag of the SRTCP index field, which marks the packet as encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// The number of SRTP packet indices, which have 48 bits.
const RTP_INDICES: u64 = 1 << 48;

/// A protection profile. DTLS negotiates it with `use_srtp` (RFC 5764 section 4.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`, 0x0007. The fastest profile.
    Aead128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`, 0x0008.
    Aead256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`, 0x0001. Universally supported, but several times slower.
    AesCm128Sha1_80,
}

impl Profile {
    /// Returns the length of the keying material to export from DTLS, in bytes: two keys and two
    /// salts.
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// Returns how many bytes longer an SRTP packet is than the RTP packet.
    pub const fn rtp_overhead(self) -> usize {
        match self {
            Self::Aead128Gcm | Self::Aead256Gcm => 16,
            Self::AesCm128Sha1_80 => 10,
        }
    }

    /// Returns how many bytes longer an SRTCP packet is than the RTCP compound. Includes four bytes
    /// for the index.
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

/// The error for keying material of the wrong length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{got} bytes of keying material where the profile needs {needed}")]
pub struct BadKey {
    /// The length of the keying material, in bytes.
    pub got: usize,
    /// The expected length, in bytes: [`Profile::keying_material_len`].
    pub needed: usize,
}

/// Creates the SRTP contexts of a transport from the keying material exported from DTLS. Its order
/// is that of RFC 5764 section 4.2: client key, server key, client salt, server salt. The sealer
/// uses the keys of our DTLS role, and the opener those of the other role.
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
    let client = || SessionKeys::new(profile, client_key, client_salt).ok_or(bad);
    let server = || SessionKeys::new(profile, server_key, server_salt).ok_or(bad);
    let (ours, theirs) = if we_are_server {
        (server()?, client()?)
    } else {
        (client()?, server()?)
    };
    Ok((Sealer::new(ours), Opener::new(theirs)))
}

/// The session keys derived from a master key and its salt.
struct SessionKeys {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
}

impl SessionKeys {
    fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Option<Self> {
        // The labels are those of RFC 3711 sections 4.3.1 and 4.3.2.
        Some(Self {
            profile,
            rtp: Cipher::derive(profile, key, salt, [0, 1, 2]).ok()?,
            rtcp: Cipher::derive(profile, key, salt, [3, 4, 5]).ok()?,
        })
    }
}

/// Encrypts and authenticates outgoing packets.
pub struct Sealer {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    /// The index of the next SRTCP packet. All streams share it, because an index only has to be
    /// unique within its stream.
    rtcp_index: u32,
}

impl Sealer {
    fn new(keys: SessionKeys) -> Self {
        Self {
            profile: keys.profile,
            rtp: keys.rtp,
            rtcp: keys.rtcp,
            rtcp_index: 1,
        }
    }

    /// Returns how many bytes [`seal_rtp`](Self::seal_rtp) adds to a packet.
    /// [`seal_rtcp`](Self::seal_rtcp) adds four more.
    pub const fn overhead(&self) -> usize {
        self.profile.rtp_overhead()
    }

    /// Encrypts an RTP packet in place and appends the tag. The packet extends from `start` to the
    /// end of `packet`: a header of `header_len` bytes, and the payload. Bytes before `start` are
    /// not changed, so that several packets can share a buffer.
    ///
    /// `index` is the 48-bit packet index: the rollover counter followed by the sequence number.
    /// **An index must not be reused** for the same SSRC with different content: with GCM that
    /// would reveal the authentication key. To retransmit a packet unchanged, seal exactly the same
    /// bytes.
    ///
    /// If the packet is shorter than its header, or `index` exceeds 48 bits, `packet` is truncated
    /// to `start`, since there is nothing to send.
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

    /// Encrypts an RTCP compound in place and appends the index and the tag. The compound extends
    /// from `start` to the end of `packet`.
    ///
    /// If the compound is shorter than a header, or all 2^31 indices are used up, `packet` is
    /// truncated to `start`.
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

/// A decrypted RTP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The header of the packet.
    pub header: Header,
    /// The packet index: the rollover counter followed by the sequence number.
    pub index: u64,
    /// The offset of the end of the payload, without the tag but with padding: see
    /// [`Header::unpadded`].
    pub end: usize,
}

/// Authenticates and decrypts incoming packets, with replay protection.
///
/// For each stream, it stores the highest index and which of the last 1024 packets were received.
/// It tracks up to 64 streams. A further stream evicts the one that has been unused for longest,
/// provided that 4096 packets of other streams have arrived since its last packet; otherwise,
/// packets of the further stream are rejected. Packets that fail authentication do not change the
/// state.
pub struct Opener {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_streams: Streams,
    rtcp_streams: Streams,
}

impl Opener {
    fn new(keys: SessionKeys) -> Self {
        Self {
            profile: keys.profile,
            rtp: keys.rtp,
            rtcp: keys.rtcp,
            rtp_streams: Streams::default(),
            rtcp_streams: Streams::default(),
        }
    }

    /// Decrypts an SRTP packet in place. Returns `None` if it is not RTP, not authentic, a replay,
    /// older than the replay window, or of a stream over the limit. In this case, the content of
    /// `packet` is unspecified.
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Option<Opened> {
        let header = Header::parse(packet)?;
        let (slot, index) = self.rtp_streams.locate_rtp(header.ssrc, header.sequence)?;
        if index >= RTP_INDICES {
            return None;
        }
        let end = packet.len().checked_sub(self.profile.rtp_overhead())?;
        let (head, rest) = packet.split_at_mut_checked(header.payload)?;
        self.rtp.open_rtp(header.ssrc, index, head, rest).ok()?;
        self.rtp_streams.record(slot, header.ssrc, index);
        Some(Opened { header, index, end })
    }

    /// Decrypts an SRTCP packet in place and returns the compound. Returns `None` if the packet is
    /// not authentic, not encrypted, a replay, older than the replay window, or of a stream over
    /// the limit. In this case, the content of `packet` is unspecified.
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
        let slot = self.rtcp_streams.locate(ssrc, index)?;
        self.rtcp.open_rtcp(ssrc, field, packet).ok()?;
        self.rtcp_streams.record(slot, ssrc, index);
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
