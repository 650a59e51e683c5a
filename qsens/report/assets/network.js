// The picture of the network: pointing at a box, or arrow keys, tell a layer's facts.
function startNetwork(figure) {
  const boxes = all("rect.layer", figure), line = figure.querySelector(".network-facts");
  let place = -1;
  function show(next) {
    boxes[place]?.classList.remove("looked-at");
    place = next;
    boxes[place].classList.add("looked-at");
    line.textContent = boxes[place].dataset.facts;
  }
  boxes.forEach((box, index) => box.addEventListener("pointerenter", () => show(index)));
  figure.querySelector(".wide").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      show(place < 0 ? 0 : (place + step + boxes.length) % boxes.length);
      boxes[place].scrollIntoView({ block: "nearest", inline: "nearest" });
      event.preventDefault();
    }
  });
}

// A page that was opened from a file may not be allowed the clipboard: then the text is marked instead.
async function copyText(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "Marked: press Ctrl+C";
  }
}
