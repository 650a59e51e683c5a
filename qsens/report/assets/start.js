// Starts the page; charts join when their library is unpacked. Without it the page stays as it was written.
const data = JSON.parse(document.getElementById("page-data").textContent);

async function loadCharting() {
  const bytes = await inflate(document.getElementById("charting-library").textContent);
  const script = element("script", { textContent: new TextDecoder().decode(bytes) });
  document.head.append(script);
}

async function start() {
  startPage();
  if (typeof DecompressionStream === "undefined") {
    return;
  }
  await loadCharting();
  document.querySelector(".no-charts").remove();
  document.querySelector(".interactive").hidden = false;
  startCard();
  startCharts();
  startCompared();
  showRun(0);
  listenToChart();
  document.documentElement.dataset.charts = "ready";
}

start();
