//! Reads from an ELF file what it requires of the image.

use object::elf::{EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64, FileHeader32, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

/// What an executable requires of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The dynamic loader, as in `/lib64/ld-linux-x86-64.so.2`; none for a statically linked program.
    pub(crate) interpreter: Option<String>,
    /// OCI's name for the architecture, as in `amd64`; none for architectures that this plugin doesn't know.
    pub(crate) architecture: Option<&'static str>,
}

/// How many bytes of a file [`inspect`] needs: the program headers and the interpreter's name are at the beginning.
pub(crate) const HEAD: u32 = 64 * 1024;

/// Parses the beginning of a file. None when it isn't an ELF executable.
pub(crate) fn inspect(head: &[u8]) -> Option<Program> {
    match FileKind::parse(head).ok()? {
        FileKind::Elf32 => inspect_header::<FileHeader32<Endianness>>(head),
        FileKind::Elf64 => inspect_header::<FileHeader64<Endianness>>(head),
        _ => None,
    }
}

fn inspect_header<Header: FileHeader<Endian = Endianness>>(head: &[u8]) -> Option<Program> {
    let header = Header::parse(head).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, head).ok()?;
    let interpreter = segments.iter().find(|segment| segment.p_type(endian) == PT_INTERP).map(|segment| {
        let name = segment.data(endian, head).unwrap_or_default();
        String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()
    });
    let architecture = match header.e_machine(endian) {
        EM_X86_64 => Some("amd64"),
        EM_AARCH64 => Some("arm64"),
        EM_386 => Some("386"),
        EM_ARM => Some("arm"),
        EM_RISCV => Some("riscv64"),
        _ => None,
    };
    Some(Program { interpreter, architecture })
}
