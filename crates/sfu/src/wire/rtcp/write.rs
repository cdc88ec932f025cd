//! Appending RTCP packets to a datagram.

use super::{ReportBlock, SenderInfo, format, packet_type};

/// How many report blocks a packet may have (RFC 3550 section 6.4.1: five bits count them).
const BLOCKS: usize = 31;
/// How many pairs of a NACK, of four bytes each, go into a datagram together with other packets.
const NACK_PAIRS: usize = 256;

/// Appends a sender report. Blocks beyond the 31st follow in receiver reports of the same stream.
pub fn write_sender_report(out: &mut Vec<u8>, sender: &SenderInfo, blocks: &[ReportBlock]) {
    let (own, others) = blocks.split_at(blocks.len().min(BLOCKS));
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

/// Appends a receiver report, and another for every 31 blocks. Without blocks it is an empty one,
/// which a compound may begin with.
pub fn write_receiver_report(out: &mut Vec<u8>, ssrc: u32, blocks: &[ReportBlock]) {
    let mut rest = blocks;
    loop {
        let (own, others) = rest.split_at(rest.len().min(BLOCKS));
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

/// Appends a source description that has the canonical name only (RFC 3550 section 6.5.1). A name
/// over 255 bytes is cut.
pub fn write_sdes_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let length = u8::try_from(cname.len()).unwrap_or(u8::MAX);
    packet(out, packet_type::SDES, 1, |out| {
        out.extend_from_slice(&ssrc.to_be_bytes());
        out.extend_from_slice(&[1, length]);
        out.extend(cname.bytes().take(usize::from(length)));
        // The list of items ends with a zero, even where the name fills its word.
        out.push(0);
    });
}

/// Appends a request for packets of a stream (RFC 4585 section 6.2.1), and tells how many of `lost`
/// it holds: more than fit into a datagram are for the next. `lost` is sorted, in the sense of
/// numbers that wrap; unsorted ones are requested too but take more room. Nothing is appended when
/// nothing is lost.
pub fn write_nack(out: &mut Vec<u8>, sender: u32, media: u32, lost: &[u16]) -> usize {
    let mut rest = lost;
    if rest.is_empty() {
        return 0;
    }
    packet(out, packet_type::TRANSPORT_FEEDBACK, format::NACK, |out| {
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
        for _ in 0..NACK_PAIRS {
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

/// Appends a request for a key frame (RFC 4585 section 6.3.1).
pub fn write_pli(out: &mut Vec<u8>, sender: u32, media: u32) {
    packet(out, packet_type::PAYLOAD_FEEDBACK, format::PLI, |out| {
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
    });
}

/// Appends a request for key frames of several streams, each with its request number (RFC 5104
/// section 4.3.1). At most 128; the rest is left out.
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

/// Appends the end of streams, and another packet for every 31 of them (RFC 3550 section 6.6).
pub fn write_bye(out: &mut Vec<u8>, ssrcs: &[u32]) {
    for some in ssrcs.chunks(BLOCKS) {
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

/// How many there are, in five bits.
fn count<T>(items: &[T]) -> u8 {
    u8::try_from(items.len().min(BLOCKS)).unwrap_or_default()
}

/// Appends a packet whose body `write` appends, filled up with zeros to whole words. The padding
/// bit stays clear: only the last packet of a compound may have it (RFC 3550 section 6.4.1), and
/// every body here tells by itself where it ends.
pub(super) fn packet(
    out: &mut Vec<u8>,
    packet_type: u8,
    count: u8,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let begin = out.len();
    out.extend_from_slice(&[0x80 | count & 0x1F, packet_type, 0, 0]);
    write(out);
    let words = (out.len() - begin).div_ceil(4);
    out.resize(begin + words * 4, 0);
    let length = u16::try_from(words - 1).expect("every body is bounded to fit a datagram");
    if let Some(field) = out.get_mut(begin + 2..begin + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}
