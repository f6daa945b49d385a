"use strict";
// Conversations: they stand in the page, which also works without this script; here they are sorted and found.
(() => {
  const form = document.getElementById("controls");
  const list = document.getElementById("talks");
  const talks = [...list.children];
  form.hidden = false;

  const key = (talk, name) => Number(talk.dataset[name.toLowerCase()] ?? -1);

  function show() {
    const sort = form.elements.sort.value;
    const find = form.elements.find.value.trim().toLowerCase();
    const order = sort === "place"
      ? (a, b) => key(a, "place") - key(b, "place")
      : (a, b) => key(b, sort) - key(a, sort) || key(a, "place") - key(b, "place");
    list.append(...talks.sort(order));
    let shown = 0;
    for (const talk of talks) {
      const fits = talk.textContent.toLowerCase().includes(find) && (!form.elements.failed.checked || key(talk, "failed") > 0);
      talk.hidden = !fits;
      shown += fits;
    }
    document.getElementById("status").textContent = shown === talks.length ? `${shown} conversations.` : `${shown} of ${talks.length} conversations.`;
  }

  // A first picture is fetched when a conversation is opened, not for all of them at once.
  const fetchPictures = (talk) => {
    if (talk.open) for (const video of talk.querySelectorAll("video")) video.preload = "metadata";
  };
  talks.forEach((talk) => { talk.addEventListener("toggle", () => fetchPictures(talk)); fetchPictures(talk); });

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", show);
  list.addEventListener("play", (event) => {
    for (const other of document.querySelectorAll("video, audio")) if (other !== event.target) other.pause();
  }, true);
  list.addEventListener("error", (event) => {
    if (event.target.tagName !== "VIDEO") return;
    const link = Object.assign(document.createElement("a"), { href: event.target.src, textContent: "Open the file" });
    const note = Object.assign(document.createElement("div"), { className: "absent" });
    note.append("This browser cannot play this video. ", link);
    event.target.replaceWith(note);
  }, true);
  show();
})();
