// Each explorer: sliders, one picture, and the pictures of all settings in order, the last slider's fastest.
for (const explorer of document.querySelectorAll(".explorer")) {
  const hands = [...explorer.querySelectorAll("input")];
  const picture = explorer.querySelector("img");
  const frames = JSON.parse(explorer.querySelector("script").textContent);
  const words = hands.map((hand) => JSON.parse(hand.dataset.words));
  const move = () => {
    let place = 0;
    hands.forEach((hand, number) => {
      const said = words[number][hand.value];
      hand.nextElementSibling.textContent = said;
      hand.setAttribute("aria-valuetext", said);
      place = place * words[number].length + Number(hand.value);
    });
    picture.src = "data:image/png;base64," + frames[place];
  };
  for (const hand of hands) hand.addEventListener("input", move);
}
