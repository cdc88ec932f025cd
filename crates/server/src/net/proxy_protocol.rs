//! The PROXY protocol, versions 1 and 2: what a proxy that passes on bytes puts before them, so that
//! it is known whose they are.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line of version 1, with its end.
const LINE_BYTES: usize = 107;
/// What version 2 begins with. No line of version 1 is as short.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What version 2 may have after its first 16 bytes: addresses, and extensions, which are passed
/// over.
const BLOCK_BYTES: usize = 4096;

/// Reads the header, and not a byte of what follows. `None` is a connection of the proxy itself.
///
/// # Errors
/// When there is no header, or it is malformed.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        let [command, family, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > BLOCK_BYTES {
            return Err(malformed());
        }
        let mut block = vec![0; length];
        stream.read_exact(&mut block).await?;
        let Source(client) = binary(command, family, &block).ok_or_else(malformed)?;
        return Ok(client);
    }
    let mut line = start.to_vec();
    // Byte by byte: what follows is for somebody else.
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES || !line.starts_with(b"PROXY ") {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    let Source(client) = text(&line).ok_or_else(malformed)?;
    Ok(client)
}

/// The source of a connection: a client, or none when the proxy itself is it.
struct Source(Option<SocketAddr>);

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 5000 80`. `None` is malformed.
fn text(line: &[u8]) -> Option<Source> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Source(None));
    }
    let (source, _) = (words.next()?, words.next()?.parse::<IpAddr>().ok()?);
    let (port, _) = (words.next()?.parse().ok()?, words.next()?);
    let source: IpAddr = match family {
        "TCP4" => source.parse::<Ipv4Addr>().ok()?.into(),
        "TCP6" => source.parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    let source = Source(Some(SocketAddr::new(source, port)));
    words.next().is_none().then_some(source)
}

/// Version 2, from its 13th byte on. `None` is malformed.
fn binary(command: u8, family: u8, block: &[u8]) -> Option<Source> {
    match command {
        0x20 => return Some(Source(None)),
        0x21 => {}
        _ => return None,
    }
    // Source and destination, then the port of each.
    let (source, port): (IpAddr, _) = match family {
        0x11 => {
            let (addresses, ports) = block.get(..12)?.split_at(8);
            let source: [u8; 4] = addresses.first_chunk().copied()?;
            (Ipv4Addr::from(source).into(), ports.first_chunk()?)
        }
        0x21 => {
            let (addresses, ports) = block.get(..36)?.split_at(32);
            let source: [u8; 16] = addresses.first_chunk().copied()?;
            (Ipv6Addr::from(source).into(), ports.first_chunk()?)
        }
        // Not said, or a family that has no address of this kind.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return Some(Source(None)),
        _ => return None,
    };
    let source = SocketAddr::new(source, u16::from_be_bytes(*port));
    Some(Source(Some(source)))
}

fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "no header of the PROXY protocol")
}

/// For the fuzz targets: reads a header from these bytes.
pub(crate) fn read_bytes(mut bytes: &[u8]) {
    let _ = read(&mut bytes).now_or_never();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Wrong;

    type Outcome = Result<Option<String>, Wrong>;

    /// What is read, and what is left for whoever comes after.
    fn of(bytes: &[u8]) -> (Outcome, usize) {
        let mut left = bytes;
        let header = read(&mut left).now_or_never().unwrap();
        let header = header.map(|from| from.map(|address| address.to_string()));
        (header.map_err(|_| Wrong), left.len())
    }

    fn second(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, block].concat()
    }

    #[test]
    fn version_1_says_who_it_is() {
        for (line, said) in [
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n",
                Ok(Some("192.0.2.1:5000".to_owned())),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 5000 80\r\n",
                Ok(Some("[2001:db8::1]:5000".to_owned())),
            ),
            ("PROXY UNKNOWN\r\n", Ok(None)),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Ok(None)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n", Err(Wrong)),
            ("PROXY TCP4 ::1 ::1 5000 80\r\n", Err(Wrong)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 5000 80 1\r\n", Err(Wrong)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 99999 80\r\n", Err(Wrong)),
            ("GET / HTTP/1.1\r\n", Err(Wrong)),
        ] {
            assert_eq!(of(format!("{line}GET /").as_bytes()).0, said, "{line}");
        }
        assert_eq!(
            of(b"PROXY UNKNOWN\r\nGET /").1,
            5,
            "what follows is not read"
        );
        assert_eq!(of("PROXY ".repeat(100).as_bytes()).0, Err(Wrong));
    }

    #[test]
    fn version_2_says_who_it_is() {
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 80];
        assert_eq!(
            of(&second(0x21, 0x11, &four)).0,
            Ok(Some("192.0.2.1:5000".to_owned()))
        );
        let with_more = [&four[..], &[4, 0, 1, 0]].concat();
        let bytes = [second(0x21, 0x11, &with_more), b"GET /".to_vec()].concat();
        assert_eq!(of(&bytes), (Ok(Some("192.0.2.1:5000".to_owned())), 5));
        let mut six = [0; 36];
        (six[0], six[1], six[15], six[33]) = (0x20, 0x01, 1, 7);
        assert_eq!(
            of(&second(0x21, 0x21, &six)).0,
            Ok(Some("[2001::1]:7".to_owned()))
        );
        assert_eq!(of(&second(0x20, 0, &[])).0, Ok(None), "the proxy itself");
        for wrong in [
            second(0x21, 0x11, &four[..11]),
            second(0x21, 0x21, &six[..35]),
            second(0x11, 0x11, &four),
            second(0x21, 0x55, &four),
            second(0x21, 0x11, &[0; BLOCK_BYTES + 1]),
            SIGNATURE.to_vec(),
        ] {
            assert_eq!(of(&wrong).0, Err(Wrong), "{wrong:?}");
        }
    }
}
