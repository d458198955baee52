// Draw figures in the colours of the page, and again when the system turns light or dark.

const { panels, ...chosen } = JSON.parse(document.getElementById("data").textContent);
const config = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};

function drawPanel(name, { data, layout }) {
  const { color, backgroundColor } = getComputedStyle(document.getElementById(name).parentElement);
  const looks = {
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    paper_bgcolor: backgroundColor,
    plot_bgcolor: backgroundColor,
    font: { ...layout.font, color },
    hoverlabel: { bgcolor: backgroundColor, font: { color } },
  };
  const filename = `${document.title}-${name}`.replace(/[^\p{L}\p{N}_.-]+/gu, "_").slice(0, 120);
  const named = { ...config, toImageButtonOptions: { filename } };
  Plotly.react(name, data, { ...structuredClone(layout), ...looks }, named);
}

function keepDrawn(drawAll) {
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}
