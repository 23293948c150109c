//! Colours and fonts.
//!
//! The three endings use colours of Okabe and Ito's palette, which people with any colour vision tell apart; each has
//! its own sign too, so that grey print tells them apart as well. The card has a ground of its own: what is around the
//! picture may be light or dark. All rules stand below one class, for pictures that are pasted into a page.

/// Fonts whose widths are no more than those of `text::width`.
const FONT: &str = "'Helvetica Neue',Helvetica,Arial,'Liberation Sans','DejaVu Sans',sans-serif";

/// The colours of one appearance.
struct Palette {
    card: &'static str,
    frame: [&'static str; 2],
    frame_line: &'static str,
    state: &'static str,
    state_line: &'static str,
    label: &'static str,
    text: &'static str,
    muted: &'static str,
    line: &'static str,
    onward: &'static str,
    error: &'static str,
    idle: &'static str,
    /// Fill and line of the endings ok, error, cancelled.
    ok: [&'static str; 2],
    failed: [&'static str; 2],
    cancelled: [&'static str; 2],
}

const LIGHT: Palette = Palette {
    card: "#ffffff",
    frame: ["#f5f7f9", "#eaeef2"],
    frame_line: "#9aa5b1",
    state: "#ffffff",
    state_line: "#52606d",
    label: "#ffffff",
    text: "#1f2933",
    muted: "#52606d",
    line: "#616e7c",
    onward: "#1f2933",
    error: "#b34700",
    idle: "#a9b3be",
    ok: ["#d5efe6", "#00704f"],
    failed: ["#fbe2d3", "#b34700"],
    cancelled: ["#e4e7eb", "#52606d"],
};

const DARK: Palette = Palette {
    card: "#15191e",
    frame: ["#1d232a", "#252c34"],
    frame_line: "#5a6672",
    state: "#2b333c",
    state_line: "#9aa5b1",
    label: "#15191e",
    text: "#eef1f4",
    muted: "#aab4be",
    line: "#98a3ae",
    onward: "#eef1f4",
    error: "#f5985e",
    idle: "#56616c",
    ok: ["#0f3d30", "#46c79d"],
    failed: ["#4d2713", "#f5985e"],
    cancelled: ["#343c45", "#aab4be"],
};

/// The style sheet.
pub(super) fn sheet() -> String {
    format!(
        ".sg text{{font-family:{FONT};font-size:11px}}\n\
         .sg .name{{font-size:13px;font-weight:bold}}\n.sg .title{{font-size:16px;font-weight:bold}}\n\
         .sg .count,.sg .now{{font-weight:bold}}\n\
         .sg .line{{fill:none;stroke-width:1.4}}\n.sg .onward{{stroke-width:2}}\n.sg .idle{{stroke-dasharray:5 4;stroke-width:1.2}}\n\
         .sg .parked{{stroke-dasharray:6 3}}\n.sg .origin{{stroke-dasharray:none}}\n.sg .sign{{fill:none;stroke-width:1.6;stroke-linecap:round;stroke-linejoin:round}}\n\
         {}@media (prefers-color-scheme:dark){{\n{}}}\n",
        rules(&LIGHT),
        rules(&DARK)
    )
}

fn rules(palette: &Palette) -> String {
    let Palette { card, frame, frame_line, state, state_line, label, text, muted, line, onward, error, idle, ok, failed, cancelled } =
        palette;
    let pair = |name: &str, [fill, stroke]: &[&str; 2]| format!(".sg .{name}{{fill:{fill};stroke:{stroke}}}\n");
    [
        format!(".sg text{{fill:{text}}}\n.sg .muted,.sg .guard,.sg .figure{{fill:{muted}}}\n.sg .error-text{{fill:{error}}}\n"),
        format!(".sg .card{{fill:{card}}}\n"),
        pair("frame0", &[frame[0], frame_line]),
        pair("frame1", &[frame[1], frame_line]),
        pair("state", &[state, state_line]),
        format!(".sg .label{{fill:{label};stroke:{idle}}}\n"),
        pair("ok", ok),
        pair("failed", failed),
        pair("cancelled", cancelled),
        format!(".sg .line{{stroke:{line}}}\n.sg .head{{fill:{line};stroke:none}}\n.sg .dot{{fill:{onward}}}\n"),
        format!(".sg .origin{{fill:{card};stroke:{line};stroke-width:1.4}}\n.sg .onward{{stroke:{onward}}}\n.sg .head.onward{{fill:{onward};stroke:none}}\n"),
        format!(".sg .error{{stroke:{error}}}\n.sg .head.error{{fill:{error};stroke:none}}\n"),
        format!(".sg .idle{{stroke:{idle}}}\n.sg .head.idle{{fill:{idle};stroke:none}}\n"),
        format!(".sg .sign{{stroke:{muted}}}\n.sg .sign-ok{{stroke:{}}}\n.sg .sign-failed{{stroke:{}}}\n", ok[1], failed[1]),
    ]
    .concat()
}
