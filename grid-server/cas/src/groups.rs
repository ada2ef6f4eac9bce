//! Batches in parts that a backend takes at once.

/// What each blob and each answer takes beside its content, at most: a digest, its frame, a status. In bytes.
const BESIDE: u64 = 256;

/// `items` in groups that each have `bytes` bytes at most, if no item has more.
pub(crate) fn within<T>(
    items: impl IntoIterator<Item = T>,
    bytes: u64,
    size: impl Fn(&T) -> u64,
) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut room = 0_u64;
    for item in items {
        let needs = size(&item) + BESIDE;
        match groups.last_mut() {
            Some(group) if needs <= room => {
                group.push(item);
                room -= needs;
            }
            _ => {
                groups.push(vec![item]);
                room = bytes.saturating_sub(needs);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_hold_all_items_in_order_and_keep_the_limit(sizes in prop::collection::vec(0_u64..5_000, 0..50)) {
            let groups = within(sizes.clone(), 8_000, |size| *size);
            prop_assert_eq!(groups.concat(), sizes);
            for group in groups {
                let sum: u64 = group.iter().map(|size| size + BESIDE).sum();
                prop_assert!(!group.is_empty() && (sum <= 8_000 || group.len() == 1));
            }
        }
    }
}
