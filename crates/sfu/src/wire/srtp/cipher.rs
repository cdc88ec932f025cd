//! The SRTP transforms: AES-GCM (RFC 7714), and AES in counter mode with HMAC-SHA1 (RFC 3711).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::{Profile, RTCP_HEADER};
use crate::wire::be32;

/// Length of the AES-GCM tag, in bytes.
const GCM_TAG: usize = 16;
/// Length of the HMAC-SHA1 tag, which RFC 3711 truncates to 80 bits, in bytes.
const SHA1_TAG: usize = 10;
/// Length of the longest tag, in bytes.
pub(super) const TAG_MAX: usize = GCM_TAG;
/// Length of the SRTCP index field, in bytes.
const INDEX: usize = 4;

/// The session keys for either RTP or RTCP in one direction.
pub(super) enum Cipher {
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    CounterSha1(Box<CounterSha1>),
}

/// AES in counter mode with HMAC-SHA1.
pub(super) struct CounterSha1 {
    key: EncryptingKey,
    salt: [u8; 14],
    auth: hmac::Key,
}

impl Cipher {
    /// Derives session keys from a master key and its salt. The labels are those of the cipher key,
    /// the authentication key and the salt, in this order.
    pub(super) fn derive(
        profile: Profile,
        master_key: &[u8],
        master_salt: &[u8],
        [cipher, auth, salt]: [u8; 3],
    ) -> Result<Self, Unspecified> {
        let derive = |label, out: &mut [u8]| derive(master_key, master_salt, label, out);
        match profile {
            Profile::Aead128Gcm => {
                let (mut key, mut salts) = ([0; 16], [0; 12]);
                derive(cipher, &mut key)?;
                derive(salt, &mut salts)?;
                Self::gcm(&key, salts)
            }
            Profile::Aead256Gcm => {
                let (mut key, mut salts) = ([0; 32], [0; 12]);
                derive(cipher, &mut key)?;
                derive(salt, &mut salts)?;
                Self::gcm(&key, salts)
            }
            Profile::AesCm128Sha1_80 => {
                let (mut key, mut auths, mut salts) = ([0; 16], [0; 20], [0; 14]);
                derive(cipher, &mut key)?;
                derive(auth, &mut auths)?;
                derive(salt, &mut salts)?;
                Ok(Self::CounterSha1(Box::new(CounterSha1 {
                    key: counter_mode(&key)?,
                    salt: salts,
                    auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auths),
                })))
            }
        }
    }

    /// Creates an AES-GCM cipher from session keys.
    pub(super) fn gcm(key: &[u8], salt: [u8; 12]) -> Result<Self, Unspecified> {
        let algorithm = if key.len() == 16 {
            &AES_128_GCM
        } else {
            &AES_256_GCM
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key)?);
        Ok(Self::Gcm { key, salt })
    }

    /// Encrypts the payload at the start of `rest` and writes the tag to its end.
    #[inline]
    pub(super) fn seal_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header: &[u8],
        rest: &mut [u8],
    ) -> Result<(), Unspecified> {
        match self {
            Self::Gcm { key, salt } => {
                let (payload, tag) = split_end(rest, GCM_TAG)?;
                let nonce = gcm_nonce(salt, ssrc, index);
                key.seal_in_place_scatter(nonce, Aad::from(header), payload, &[], tag)
            }
            Self::CounterSha1(keys) => {
                let (payload, tag) = split_end(rest, SHA1_TAG)?;
                keys.apply(ssrc, index, payload)?;
                let roc = rollover_counter(index);
                tag.copy_from_slice(&keys.tag(&[header, payload, &roc]));
                Ok(())
            }
        }
    }

    /// Verifies the tag at the end of `rest` and decrypts the payload before it.
    #[inline]
    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header: &[u8],
        rest: &mut [u8],
    ) -> Result<(), Unspecified> {
        match self {
            Self::Gcm { key, salt } => {
                let nonce = gcm_nonce(salt, ssrc, index);
                key.open_in_place(nonce, Aad::from(header), rest)?;
                Ok(())
            }
            Self::CounterSha1(keys) => {
                let (payload, tag) = split_end(rest, SHA1_TAG)?;
                let roc = rollover_counter(index);
                verify_slices_are_equal(tag, &keys.tag(&[header, payload, &roc]))?;
                keys.apply(ssrc, index, payload)
            }
        }
    }

    /// Returns the index field of an SRTCP packet, including the E flag. Its position differs
    /// between the two transforms.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Option<u32> {
        let from_end = match self {
            Self::Gcm { .. } => INDEX,
            Self::CounterSha1(_) => INDEX + SHA1_TAG,
        };
        be32(packet, packet.len().checked_sub(from_end)?)
    }

    /// Encrypts a compound packet and writes the index and the tag to the end of `packet`.
    pub(super) fn seal_rtcp(
        &self,
        ssrc: u32,
        field: u32,
        packet: &mut [u8],
    ) -> Result<(), Unspecified> {
        let index_field = field.to_be_bytes();
        match self {
            Self::Gcm { key, salt } => {
                let (packet, end) = split_end(packet, INDEX)?;
                end.copy_from_slice(&index_field);
                let (header, rest) = header(packet)?;
                let (payload, tag) = split_end(rest, GCM_TAG)?;
                let nonce = gcm_nonce(salt, ssrc, rtcp_index(field));
                let aad = Aad::from(gcm_rtcp_aad(*header, index_field));
                key.seal_in_place_scatter(nonce, aad, payload, &[], tag)
            }
            Self::CounterSha1(keys) => {
                let (packet, tag) = split_end(packet, SHA1_TAG)?;
                let (compound, end) = split_end(packet, INDEX)?;
                end.copy_from_slice(&index_field);
                let (_, payload) = header(compound)?;
                keys.apply(ssrc, rtcp_index(field), payload)?;
                tag.copy_from_slice(&keys.tag(&[packet]));
                Ok(())
            }
        }
    }

    /// Verifies the tag of an SRTCP packet and decrypts it in place.
    pub(super) fn open_rtcp(
        &self,
        ssrc: u32,
        field: u32,
        packet: &mut [u8],
    ) -> Result<(), Unspecified> {
        match self {
            Self::Gcm { key, salt } => {
                let (packet, end) = split_end(packet, INDEX)?;
                let (header, rest) = header(packet)?;
                let end = end.first_chunk().ok_or(Unspecified)?;
                let nonce = gcm_nonce(salt, ssrc, rtcp_index(field));
                let aad = Aad::from(gcm_rtcp_aad(*header, *end));
                key.open_in_place(nonce, aad, rest)?;
                Ok(())
            }
            Self::CounterSha1(keys) => {
                let (packet, tag) = split_end(packet, SHA1_TAG)?;
                verify_slices_are_equal(tag, &keys.tag(&[packet]))?;
                let (compound, _) = split_end(packet, INDEX)?;
                let (_, payload) = header(compound)?;
                keys.apply(ssrc, rtcp_index(field), payload)
            }
        }
    }
}

impl CounterSha1 {
    /// Encrypts or decrypts a payload; both are the same operation (RFC 3711 section 4.1.1).
    fn apply(&self, ssrc: u32, index: u64, payload: &mut [u8]) -> Result<(), Unspecified> {
        let mut start = (u128::from(ssrc) << 64 | u128::from(index) << 16).to_be_bytes();
        for (byte, salt) in start.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        key_stream(&self.key, start, payload)
    }

    /// Computes the tag of the concatenation of `parts` (RFC 3711 section 4.2.1).
    fn tag(&self, parts: &[&[u8]]) -> [u8; SHA1_TAG] {
        let mut context = hmac::Context::with_key(&self.auth);
        for part in parts {
            context.update(part);
        }
        let tag = context.sign();
        let short = tag.as_ref().first_chunk();
        *short.expect("an HMAC-SHA1 tag has 20 bytes")
    }
}

/// Splits a compound RTCP packet into the unencrypted header and the rest.
fn header(packet: &mut [u8]) -> Result<(&mut [u8; RTCP_HEADER], &mut [u8]), Unspecified> {
    packet.split_first_chunk_mut().ok_or(Unspecified)
}

/// Splits off the last `length` bytes.
fn split_end(bytes: &mut [u8], length: usize) -> Result<(&mut [u8], &mut [u8]), Unspecified> {
    let at = bytes.len().checked_sub(length).ok_or(Unspecified)?;
    bytes.split_at_mut_checked(at).ok_or(Unspecified)
}

/// Returns the index without the E flag.
fn rtcp_index(field: u32) -> u64 {
    u64::from(field & 0x7FFF_FFFF)
}

/// Returns the rollover counter of an index, which is authenticated with the packet (RFC 3711
/// section 4.2).
fn rollover_counter(index: u64) -> [u8; 4] {
    let [_, _, counter @ .., _, _] = index.to_be_bytes();
    counter
}

/// Returns the nonce of RFC 7714 sections 8.1 and 9.1. The 48-bit SRTP index and the 31-bit SRTCP
/// index have the same position.
fn gcm_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let value = u128::from(ssrc) << 48 | u128::from(index);
    let [_, _, _, _, mut nonce @ ..] = value.to_be_bytes();
    for (byte, salt) in nonce.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// Returns the additional authenticated data of RFC 7714 section 9.2: the header and the index
/// field.
fn gcm_rtcp_aad(header: [u8; RTCP_HEADER], field: [u8; INDEX]) -> [u8; RTCP_HEADER + INDEX] {
    let mut aad = [0; RTCP_HEADER + INDEX];
    aad[..RTCP_HEADER].copy_from_slice(&header);
    aad[RTCP_HEADER..].copy_from_slice(&field);
    aad
}

fn key_stream(key: &EncryptingKey, start: [u8; 16], bytes: &mut [u8]) -> Result<(), Unspecified> {
    if bytes.is_empty() {
        return Ok(());
    }
    key.less_safe_encrypt(bytes, EncryptionContext::Iv128(FixedLength::from(start)))?;
    Ok(())
}

fn counter_mode(key: &[u8]) -> Result<EncryptingKey, Unspecified> {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key)?)
}

/// Derives a session key (RFC 3711 section 4.3.3; RFC 6188 for 256 bits). A 96-bit salt is padded
/// with 16 zero bits (RFC 7714 section 11).
pub(super) fn derive(
    master_key: &[u8],
    master_salt: &[u8],
    label: u8,
    out: &mut [u8],
) -> Result<(), Unspecified> {
    let mut start = [0; 16];
    for (byte, salt) in start.iter_mut().take(14).zip(master_salt) {
        *byte = *salt;
    }
    start[7] ^= label;
    out.fill(0);
    key_stream(&counter_mode(master_key)?, start, out)
}
