//! Serialization of RTCP packets.

use super::{ReportBlock, SenderInfo, format, packet_type};

/// Maximum number of report blocks in a packet (RFC 3550 section 6.4.1: the count has five bits).
const MAX_BLOCKS: usize = 31;
/// Maximum number of four-byte pairs in a NACK, so that it fits into a datagram with other packets.
const MAX_NACK_PAIRS: usize = 256;

/// Appends a sender report. Blocks after the 31st are written to receiver reports of the same SSRC.
pub fn write_sender_report(out: &mut Vec<u8>, sender: &SenderInfo, blocks: &[ReportBlock]) {
    let (own, others) = blocks.split_at(blocks.len().min(MAX_BLOCKS));
    packet(out, packet_type::SENDER_REPORT, count(own), |out| {
        out.extend_from_slice(&sender.ssrc.to_be_bytes());
        out.extend_from_slice(&sender.ntp.to_be_bytes());
        out.extend_from_slice(&sender.rtp.to_be_bytes());
        out.extend_from_slice(&sender.packets.to_be_bytes());
        out.extend_from_slice(&sender.octets.to_be_bytes());
        write_blocks(out, own);
    });
    if !others.is_empty() {
        write_receiver_report(out, sender.ssrc, others);
    }
}

/// Appends a receiver report for every 31 blocks. Without blocks, appends an empty report, which
/// may start a compound.
pub fn write_receiver_report(out: &mut Vec<u8>, ssrc: u32, blocks: &[ReportBlock]) {
    let mut rest = blocks;
    loop {
        let (own, others) = rest.split_at(rest.len().min(MAX_BLOCKS));
        packet(out, packet_type::RECEIVER_REPORT, count(own), |out| {
            out.extend_from_slice(&ssrc.to_be_bytes());
            write_blocks(out, own);
        });
        rest = others;
        if rest.is_empty() {
            break;
        }
    }
}

/// Appends a source description with only a canonical name (RFC 3550 section 6.5.1). The name is
/// truncated to 255 bytes.
pub fn write_sdes_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let length = u8::try_from(cname.len()).unwrap_or(u8::MAX);
    packet(out, packet_type::SDES, 1, |out| {
        out.extend_from_slice(&ssrc.to_be_bytes());
        out.extend_from_slice(&[1, length]);
        out.extend(cname.bytes().take(usize::from(length)));
        // The list of items must end with a zero byte, even if the name ends on a word boundary.
        out.push(0);
    });
}

/// Appends a NACK for lost packets of a stream (RFC 4585 section 6.2.1). Returns how many of `lost`
/// it contains: the rest, if they do not fit into a datagram, are for the next one. `lost` should
/// be sorted in wrapping order; otherwise the packet is larger than necessary. Appends nothing if
/// `lost` is empty.
pub fn write_nack(out: &mut Vec<u8>, sender: u32, media: u32, lost: &[u16]) -> usize {
    let mut rest = lost;
    if rest.is_empty() {
        return 0;
    }
    packet(out, packet_type::TRANSPORT_FEEDBACK, format::NACK, |out| {
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
        for _ in 0..MAX_NACK_PAIRS {
            let Some((first, others)) = rest.split_first() else {
                break;
            };
            rest = others;
            let mut following = 0_u16;
            while let Some((next, others)) = rest.split_first() {
                match next.wrapping_sub(*first) {
                    0 => {}
                    ahead @ 1..=16 => following |= 1 << (ahead - 1),
                    _ => break,
                }
                rest = others;
            }
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&following.to_be_bytes());
        }
    });
    lost.len() - rest.len()
}

/// Appends a picture loss indication, which requests a key frame (RFC 4585 section 6.3.1).
pub fn write_pli(out: &mut Vec<u8>, sender: u32, media: u32) {
    packet(out, packet_type::PAYLOAD_FEEDBACK, format::PLI, |out| {
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
    });
}

/// Appends a full intra request for several streams, each with its command sequence number (RFC
/// 5104 section 4.3.1). Entries after the 128th are ignored.
pub fn write_fir(out: &mut Vec<u8>, sender: u32, entries: &[(u32, u8)]) {
    packet(out, packet_type::PAYLOAD_FEEDBACK, format::FIR, |out| {
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        for (ssrc, request) in entries.iter().take(128) {
            out.extend_from_slice(&ssrc.to_be_bytes());
            out.extend_from_slice(&[*request, 0, 0, 0]);
        }
    });
}

/// Appends a goodbye packet for every 31 streams (RFC 3550 section 6.6).
pub fn write_bye(out: &mut Vec<u8>, ssrcs: &[u32]) {
    for some in ssrcs.chunks(MAX_BLOCKS) {
        packet(out, packet_type::BYE, count(some), |out| {
            for ssrc in some {
                out.extend_from_slice(&ssrc.to_be_bytes());
            }
        });
    }
}

fn write_blocks(out: &mut Vec<u8>, blocks: &[ReportBlock]) {
    for block in blocks {
        let lost = block.lost.clamp(-0x80_0000, 0x7F_FFFF);
        let [_, high, middle, low] = lost.to_be_bytes();
        out.extend_from_slice(&block.ssrc.to_be_bytes());
        out.extend_from_slice(&[block.fraction_lost, high, middle, low]);
        out.extend_from_slice(&block.highest.to_be_bytes());
        out.extend_from_slice(&block.jitter.to_be_bytes());
        out.extend_from_slice(&block.lsr.to_be_bytes());
        out.extend_from_slice(&block.dlsr.to_be_bytes());
    }
}

/// Returns the number of items, limited to what five bits can represent.
fn count<T>(items: &[T]) -> u8 {
    u8::try_from(items.len().min(MAX_BLOCKS)).unwrap_or_default()
}

/// Appends a packet whose body is appended by `write`, and fills the last word with zeros. The
/// padding bit stays clear, since only the last packet of a compound may set it (RFC 3550 section
/// 6.4.1), and all bodies written here are self-delimiting.
pub(super) fn packet(
    out: &mut Vec<u8>,
    packet_type: u8,
    count: u8,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count & 0x1F, packet_type, 0, 0]);
    write(out);
    let words = (out.len() - start).div_ceil(4);
    out.resize(start + words * 4, 0);
    let length = u16::try_from(words - 1).expect("every body is small enough for a datagram");
    if let Some(field) = out.get_mut(start + 2..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}
