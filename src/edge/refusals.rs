//! How reasons to refuse are declared: each with its label, and none without.

/// An enum of refusals with the label of each, and a list of all labels, by which a test can tell that it
/// has seen them all.
macro_rules! refusals {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident $({ $(#[$field_meta:meta])* $field:ident: $kind:ty })? => $reason:literal,
            )*
        }
    ) => {
        $(#[$meta])*
        pub enum $name {
            $( $(#[$variant_meta])* $variant $({ $(#[$field_meta])* $field: $kind })?, )*
        }

        impl $name {
            /// The labels of all.
            pub const REASONS: &'static [&'static str] = &[$($reason),*];

            /// The label in log and metrics.
            pub fn reason(self) -> &'static str {
                match self {
                    $( $name::$variant { .. } => $reason, )*
                }
            }
        }
    };
}

pub(super) use refusals;
