// Draw every panel in the colours of the page.

const panels = JSON.parse(document.getElementById("data").textContent);
const config = { responsive: true, displaylogo: false, showSendToCloud: false };

function draw(name) {
  const { data, layout } = panels[name];
  const { color, backgroundColor } = getComputedStyle(document.getElementById(name).parentElement);
  const looks = {
    paper_bgcolor: backgroundColor,
    plot_bgcolor: backgroundColor,
    font: { ...layout.font, color },
    hoverlabel: { bgcolor: backgroundColor, font: { color } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
  };
  Plotly.react(name, data, { ...structuredClone(layout), ...looks }, config);
}

const drawAll = () => Object.keys(panels).forEach(draw);
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
