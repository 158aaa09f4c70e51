//! Members of a ustar archive (POSIX.1-1988), read in place: of the format as much as xtask writes, and anything else is
//! refused. The bytes come from outside (R26): [`Archive::open`] looks at every header before anybody uses one.

/// Tar's unit in bytes.
const BLOCK: usize = 512;

/// An archive all of whose headers have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a>(&'a [u8]);

/// A regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name, as it stands in the header.
    pub name: &'a [u8],
    /// Its bytes.
    pub data: &'a [u8],
}

/// What is wrong with an archive, and how many members come before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No header, one that contradicts itself, or less data than it says.
    Damaged(usize),
    /// A member that is no regular file.
    NotAFile(usize),
}

/// What stands at one place of an archive.
enum Found<'a> {
    /// A member, and where the next one is.
    Member(Member<'a>, usize),
    /// The end: two blocks of zeros.
    End,
    /// Something else than a file.
    NotAFile,
}

impl<'a> Archive<'a> {
    /// Checks an archive. What follows its end, and what follows the last whole block, is nobody's: firmware may round
    /// lengths up.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Wrong> {
        let (mut at, mut members) = (0, 0_usize);
        loop {
            match find(bytes, at).ok_or(Wrong::Damaged(members))? {
                Found::Member(_, next) => at = next,
                Found::End => return Ok(Self(bytes)),
                Found::NotAFile => return Err(Wrong::NotAFile(members)),
            }
            members = members.saturating_add(1);
        }
    }

    /// Its members.
    pub fn members(self) -> impl Iterator<Item = Member<'a>> {
        let mut at = 0;
        core::iter::from_fn(move || match find(self.0, at)? {
            Found::Member(member, next) => {
                at = next;
                Some(member)
            }
            Found::End | Found::NotAFile => None,
        })
    }
}

fn find(bytes: &[u8], at: usize) -> Option<Found<'_>> {
    let rest = bytes.get(at..)?;
    let (header, rest) = rest.split_first_chunk::<BLOCK>()?;
    if header.iter().all(|byte| *byte == 0) {
        return rest.first_chunk::<BLOCK>()?.iter().all(|byte| *byte == 0).then_some(Found::End);
    }
    let field = |from: usize, to: usize| header.get(from..to).unwrap_or(&[]);
    // The checksum counts its own field as blanks.
    let sum = |bytes: &[u8]| bytes.iter().fold(0_usize, |sum, byte| sum.saturating_add(usize::from(*byte)));
    let blanks = usize::from(b' ').saturating_mul(8);
    let whole = sum(field(0, 148)).saturating_add(blanks).saturating_add(sum(field(156, BLOCK)));
    if octal(field(148, 156))? != whole || field(257, 262) != b"ustar" || field(345, 346) != [0] {
        return None;
    }
    if !matches!(field(156, 157), [0 | b'0']) {
        return Some(Found::NotAFile);
    }
    let length = octal(field(124, 136))?;
    let data = rest.get(..length)?;
    let next = at.checked_add(BLOCK)?.checked_add(length.checked_next_multiple_of(BLOCK)?)?;
    let name = field(0, 100);
    let name = name.split(|byte| *byte == 0).next().unwrap_or(name);
    Some(Found::Member(Member { name, data }, next))
}

/// A number in octal digits, up to a blank or a zero byte.
fn octal(field: &[u8]) -> Option<usize> {
    let digits = field.iter().take_while(|byte| !matches!(byte, 0 | b' '));
    digits.copied().try_fold(0_usize, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        number.checked_mul(8)?.checked_add(digit.into())
    })
}
