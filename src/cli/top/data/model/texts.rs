//! The texts of an entry in one piece of memory.

/// Some texts: the end of each, four bytes a number, then all of them.
#[derive(Debug)]
pub(crate) struct Texts(Box<[u8]>);

impl Texts {
    pub(crate) fn new(texts: &[&[u8]]) -> Texts {
        let mut bytes = Vec::new();
        let mut end = 0;
        for text in texts {
            end += text.len() as u32;
            bytes.extend_from_slice(&end.to_ne_bytes());
        }
        bytes.extend(texts.iter().flat_map(|text| *text));
        Texts(bytes.into())
    }

    /// One of `count`.
    pub(crate) fn get(&self, text: usize, count: usize) -> &[u8] {
        let end = |text: usize| {
            let bytes: [u8; 4] = self.0[4 * text..][..4].try_into().expect("four bytes");
            u32::from_ne_bytes(bytes) as usize
        };
        let begin = if text == 0 { 0 } else { end(text - 1) };
        &self.0[4 * count..][begin..end(text)]
    }

    /// All texts; equal only for equal texts of the same number.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_again() {
        for texts in [&[&b"a"[..], b"", b"ccc"][..], &[b""], &[]] {
            let kept = Texts::new(texts);
            for (at, text) in texts.iter().enumerate() {
                assert_eq!(kept.get(at, texts.len()), *text);
            }
        }
    }
}
