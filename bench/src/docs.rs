//! Owns the generated part of a document: what stands between two markers.

const BEGIN: &str = "<!-- bench: begin -->\n";
const END: &str = "<!-- bench: end -->";

/// The document with the part replaced; None if it lacks the markers.
pub fn replace(document: &str, part: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;

    Some(format!("{before}{BEGIN}\n{}\n\n{END}{after}", part.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers() {
        let document = "# A\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nz\n";
        let new = replace(document, "new\n");

        assert_eq!(
            new.as_deref(),
            Some("# A\n<!-- bench: begin -->\n\nnew\n\n<!-- bench: end -->\nz\n")
        );
        assert_eq!(new.as_deref().and_then(|new| replace(new, "new")), new);
        assert_eq!(replace("# A\n", "new"), None);
    }
}
