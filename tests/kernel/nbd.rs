//! A small NBD client, independent of urbd's own codec: fixed newstyle, simple replies, one request at a time, or
//! several under way whose replies the caller sorts.

use std::io::{self, Read, Write};

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054; // "IHAVEOPT"
const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943; // "NBDMAGIC"
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const FIXED_NEWSTYLE: u32 = 1;
const OPTION_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const INFO_EXPORT: u16 = 0;
pub(crate) const CMD_READ: u16 = 0;
pub(crate) const CMD_WRITE: u16 = 1;
const CMD_DISCONNECT: u16 = 2;
pub(crate) const CMD_FLUSH: u16 = 3;
pub(crate) const CMD_ZEROES: u16 = 6;
/// The write is durable when it is acknowledged.
pub(crate) const FLAG_FUA: u16 = 1;
const MAX_REPLY_BYTES: u32 = 1 << 20;

/// An open export. A drop closes it with the protocol's goodbye.
pub(crate) struct Nbd<S: Read + Write> {
    stream: S,
    bytes: u64,
    cookie: u64,
}

impl<S: Read + Write> Nbd<S> {
    /// Opens `export`. A refusal is an error that carries the server's words.
    pub(crate) fn open(mut stream: S, export: &str) -> io::Result<Self> {
        expect(get_u64(&mut stream)?, INIT_MAGIC)?;
        expect(get_u64(&mut stream)?, OPTION_MAGIC)?;
        get::<2>(&mut stream)?;
        let name = export.as_bytes();
        let data_bytes = u32::try_from(4 + name.len() + 2).map_err(io::Error::other)?;
        let name_bytes = u32::try_from(name.len()).map_err(io::Error::other)?;
        let mut option = FIXED_NEWSTYLE.to_be_bytes().to_vec();
        option.extend(OPTION_MAGIC.to_be_bytes());
        option.extend(OPTION_GO.to_be_bytes());
        option.extend(data_bytes.to_be_bytes());
        option.extend(name_bytes.to_be_bytes());
        option.extend(name);
        option.extend(0_u16.to_be_bytes()); // no further information wanted
        stream.write_all(&option)?;
        let mut bytes = None;
        loop {
            expect(get_u64(&mut stream)?, OPTION_REPLY_MAGIC)?;
            get::<4>(&mut stream)?;
            let kind = u32::from_be_bytes(get(&mut stream)?);
            let length = u32::from_be_bytes(get(&mut stream)?);
            if length > MAX_REPLY_BYTES {
                return Err(io::Error::other(format!("an option reply of {length} bytes")));
            }
            let mut data = vec![0; length as usize];
            stream.read_exact(&mut data)?;
            match (kind, data.as_slice()) {
                (REP_ACK, _) => break,
                (REP_INFO, [a, b, size @ ..]) if u16::from_be_bytes([*a, *b]) == INFO_EXPORT => {
                    bytes = size.first_chunk().map(|size| u64::from_be_bytes(*size));
                }
                (REP_INFO, _) => {}
                (other, text) => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    return Err(io::Error::other(format!("refused ({other:#x}): {text}")));
                }
            }
        }
        let bytes = bytes.ok_or_else(|| io::Error::other("no NBD_INFO_EXPORT in the answer"))?;
        Ok(Self { stream, bytes, cookie: 0 })
    }

    /// Size of the export in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads `bytes` from byte `at` on.
    pub(crate) fn read(&mut self, at: u64, bytes: u32) -> io::Result<Vec<u8>> {
        self.ask(CMD_READ, at, bytes, &[])?;
        self.data(bytes)
    }

    /// Writes `data` from byte `at` on; it is acknowledged on return.
    pub(crate) fn write(&mut self, at: u64, data: &[u8]) -> io::Result<()> {
        let bytes = u32::try_from(data.len()).map_err(io::Error::other)?;
        self.ask(CMD_WRITE, at, bytes, data)
    }

    /// Makes everything acknowledged so far durable.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.ask(CMD_FLUSH, 0, 0, &[])
    }

    /// Sends a request and waits for nothing; the cookie of its reply. `flags` and `command` as on the wire.
    pub(crate) fn submit(
        &mut self,
        flags: u16,
        command: u16,
        at: u64,
        bytes: u32,
        data: &[u8],
    ) -> io::Result<u64> {
        self.send(flags, command, at, bytes, data)?;
        Ok(self.cookie)
    }

    /// Takes the next reply: its cookie and error number, 0 for none. Data of a read follow: [`Self::data`].
    pub(crate) fn reply(&mut self) -> io::Result<(u64, u32)> {
        expect(u64::from(u32::from_be_bytes(get(&mut self.stream)?)), u64::from(REPLY_MAGIC))?;
        let error = u32::from_be_bytes(get(&mut self.stream)?);
        Ok((get_u64(&mut self.stream)?, error))
    }

    /// Takes the data after the reply to a read that succeeded.
    pub(crate) fn data(&mut self, bytes: u32) -> io::Result<Vec<u8>> {
        let mut data = vec![0; bytes as usize];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    /// Sends a request and takes its reply's header; data of a read follows it.
    fn ask(&mut self, command: u16, at: u64, bytes: u32, data: &[u8]) -> io::Result<()> {
        self.send(0, command, at, bytes, data)?;
        let (cookie, error) = self.reply()?;
        expect(cookie, self.cookie)?;
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error.cast_signed())) }
    }

    fn send(&mut self, flags: u16, command: u16, at: u64, bytes: u32, data: &[u8]) -> io::Result<()> {
        self.cookie += 1;
        let mut request = REQUEST_MAGIC.to_be_bytes().to_vec();
        request.extend(flags.to_be_bytes());
        request.extend(command.to_be_bytes());
        request.extend(self.cookie.to_be_bytes());
        request.extend(at.to_be_bytes());
        request.extend(bytes.to_be_bytes());
        request.extend(data);
        self.stream.write_all(&request)
    }
}

impl<S: Read + Write> Drop for Nbd<S> {
    fn drop(&mut self) {
        if self.send(0, CMD_DISCONNECT, 0, 0, &[]).is_ok() {
            let _ = self.stream.read(&mut [0]); // the server hangs up once the export is closed
        }
    }
}

fn get<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn get_u64(stream: &mut impl Read) -> io::Result<u64> {
    get(stream).map(u64::from_be_bytes)
}

fn expect(found: u64, wanted: u64) -> io::Result<()> {
    if found == wanted {
        Ok(())
    } else {
        Err(io::Error::other(format!("found {found:#x} in place of {wanted:#x}")))
    }
}
