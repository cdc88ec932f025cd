//! What sealing and opening a packet costs, in nanoseconds: the best of many rounds.
//!
//! `cargo run --release -p parlor-sfu --example srtp_cost`

use std::time::Instant;

use parlor_sfu::wire::rtp::{Outgoing, write_header};
use parlor_sfu::wire::srtp::{Profile, pair};

/// Packets in a round.
const PACKETS: u16 = 1000;
/// Rounds, of which the best counts: everything else on the machine only makes one slower.
const ROUNDS: u16 = 200;

fn main() {
    for profile in [
        Profile::Aead128Gcm,
        Profile::Aead256Gcm,
        Profile::AesCm128Sha1_80,
    ] {
        for payload in [100, 1100] {
            let (write, seal, open) = measure(profile, payload);
            println!(
                "{profile:?}, {payload} bytes: header and copy {write}, sealed too {seal}, open {open}"
            );
        }
    }
}

/// Nanoseconds to write a packet, to write and seal it, and to open it.
fn measure(profile: Profile, payload: usize) -> (u128, u128, u128) {
    let material = vec![7; profile.keying_material_len()];
    let (sealer, _) = pair(profile, &material, true).expect("the length is the profile's own");
    let payload = vec![0x5A; payload];
    let mut arena = Vec::with_capacity(2 * payload.len());
    let mut best = [u128::MAX; 3];
    let mut packets: Vec<Vec<u8>> = vec![Vec::new(); usize::from(PACKETS)];
    for round in 0..ROUNDS {
        // The header costs least by far, so that it can be taken off.
        best[0] = best[0].min(spent(|sequence| {
            write(&mut arena, sequence, &payload);
        }));
        let index = |sequence| u64::from(round) << 16 | u64::from(sequence);
        best[1] = best[1].min(spent(|sequence| {
            let header = write(&mut arena, sequence, &payload);
            sealer.seal_rtp(&mut arena, 0, header, index(sequence));
        }));

        for (sequence, packet) in (0..PACKETS).zip(&mut packets) {
            let header = write(packet, sequence, &payload);
            sealer.seal_rtp(packet, 0, header, u64::from(sequence));
        }
        let (_, mut opener) = pair(profile, &material, false).expect("as before");
        best[2] = best[2].min(spent(|sequence| {
            let packet = &mut packets[usize::from(sequence)];
            assert!(opener.open_rtp(packet).is_some(), "it was just sealed");
        }));
    }
    let [write, seal, open] = best.map(|spent| spent / u128::from(PACKETS));
    (write, seal, open)
}

fn write(packet: &mut Vec<u8>, sequence: u16, payload: &[u8]) -> usize {
    packet.clear();
    let header = Outgoing {
        marker: false,
        payload_type: 96,
        sequence,
        timestamp: 1,
        ssrc: 2,
    };
    let length = write_header(packet, &header, &[(3, &sequence.to_be_bytes()), (4, b"7")]);
    packet.extend_from_slice(payload);
    length
}

/// Nanoseconds that a round takes.
fn spent(mut one: impl FnMut(u16)) -> u128 {
    let began = Instant::now();
    for sequence in 0..PACKETS {
        one(sequence);
    }
    began.elapsed().as_nanos()
}
