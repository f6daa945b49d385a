"use strict";
(() => {
  const PAGE_SIZE = 8;
  const DRIFT_S = 0.08;
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);

  function element(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  // Plots: one tooltip for all dots; a dot leads to its clip.
  function startPlots() {
    const tip = byId("tip");
    for (const plots of document.querySelectorAll(".plots")) {
      plots.addEventListener("pointerover", (event) => {
        tip.hidden = !event.target.dataset.tip;
        tip.textContent = event.target.dataset.tip || "";
      });
      plots.addEventListener("pointermove", (event) => {
        const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
        tip.style.left = `${Math.max(8, left)}px`;
        tip.style.top = `${event.clientY + 14}px`;
      });
      plots.addEventListener("pointerleave", () => { tip.hidden = true; });
      plots.addEventListener("click", (event) => {
        if (event.target.dataset.clip) showClip(Number(plots.dataset.run), event.target.dataset.clip);
      });
    }
    for (const link of document.querySelectorAll("#failures a[data-clip]")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        showClip(Number(link.dataset.run), link.dataset.clip);
      });
    }
  }

  // Clips: state in the form, a page of them at a time.
  const form = byId("controls");
  const chosen = { page: 0, exact: null };

  function options(select, pairs) {
    select.replaceChildren(...pairs.map(([value, text]) => element("option", { value, textContent: text })));
  }

  function startClips() {
    options(form.elements.run, data.map((run, index) => [index, run.dataset]));
    byId("run-choice").hidden = data.length < 2;
    chooseRun();
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      if (event.target.name === "run") chooseRun();
      Object.assign(chosen, { page: 0, exact: null });
      show();
    });
    byId("pages").addEventListener("click", (event) => {
      const step = Number(event.target.dataset.step);
      if (!step) return;
      chosen.page += step;
      show();
      byId("clips").scrollIntoView();
    });
    show();
  }

  function chooseRun() {
    const run = data[Number(form.elements.run.value)];
    options(form.elements.method, [["all", "all"], ...run.methods.map((name, index) => [index, name])]);
    const worst = run.columns.filter((column) => column.better !== "neither");
    const sorts = worst.map((column) => [
      run.columns.indexOf(column),
      `worst ${column.label}${column.pull ? " (pull)" : ""} first`,
    ]);
    options(form.elements.sort, [["id", "data set's order"], ["failures", "most failures first"], ...sorts]);
  }

  function showClip(run, clip) {
    form.reset();
    form.elements.run.value = String(run);
    chooseRun();
    Object.assign(chosen, { page: 0, exact: clip });
    show();
    byId("clips").scrollIntoView();
  }

  function shownMethods(run) {
    const method = form.elements.method.value;
    return method === "all" ? run.methods.map((_, index) => index) : [Number(method)];
  }

  function selected(run) {
    const methods = shownMethods(run);
    const find = form.elements.find.value.trim().toLowerCase();
    const failures = (clip) => methods.reduce((sum, m) => sum + clip.methods[m].failures.length, 0);
    const found = run.clips.filter((clip) =>
      (chosen.exact === null || clip.id === chosen.exact || clip.id.startsWith(`${chosen.exact} · `))
      && clip.id.toLowerCase().includes(find)
      && (!form.elements.failed.checked || failures(clip) > 0));
    const sort = form.elements.sort.value;
    if (sort === "id") return found;
    if (sort === "failures") return found.sort((a, b) => failures(b) - failures(a));
    const column = Number(sort);
    const sign = run.columns[column].better === "higher" ? 1 : -1;
    const others = methods.filter((m) => m !== run.truth || methods.length === 1);
    const badness = (clip) => {
      const values = others.map((m) => clip.methods[m].values[column]).filter((value) => value !== null);
      return values.length ? Math.min(...values.map((value) => sign * value)) : Infinity;
    };
    return found.map((clip) => [badness(clip), clip]).sort((a, b) => (a[0] === b[0] ? 0 : a[0] - b[0])).map((pair) => pair[1]);
  }

  const near = "IntersectionObserver" in window
    ? new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        entry.target.preload = "metadata";
        near.unobserve(entry.target);
      }
    }, { rootMargin: "200px" })
    : null;

  function show() {
    const run = data[Number(form.elements.run.value)];
    const clips = selected(run);
    const pages = Math.max(1, Math.ceil(clips.length / PAGE_SIZE));
    chosen.page = Math.min(Math.max(chosen.page, 0), pages - 1);
    const first = chosen.page * PAGE_SIZE;
    const page = clips.slice(first, first + PAGE_SIZE);
    byId("list").replaceChildren(...page.map((clip) => card(run, clip)));
    const which = clips.length ? `${first + 1} to ${first + page.length} of ${clips.length} clips` : "No clip fits these choices";
    byId("status").replaceChildren(clips.length === run.clips.length ? `${which}.` : `${which}; the data set has ${run.clips.length}. `);
    if (chosen.exact !== null) {
      const all = element("button", { type: "button", textContent: "Show all clips" });
      all.addEventListener("click", () => { chosen.exact = null; show(); });
      byId("status").append(all);
    }
    const [previous, next] = byId("pages").querySelectorAll("button");
    previous.disabled = chosen.page === 0;
    next.disabled = chosen.page === pages - 1;
    byId("pages").querySelector("span").textContent = `Page ${chosen.page + 1} of ${pages}`;
    byId("pages").hidden = pages === 1;
  }

  function card(run, clip) {
    const takes = element("div", { className: "takes" });
    const methods = shownMethods(run);
    const truth = run.truth >= 0 ? clip.methods[run.truth] : null;
    if (clip.reference || methods.includes(run.truth)) {
      takes.append(take(run, clip, run.truth >= 0 ? run.methods[run.truth] : "Reference", clip.reference, truth, true));
    }
    for (const method of methods) {
      if (method !== run.truth) takes.append(take(run, clip, run.methods[method], clip.methods[method].video, clip.methods[method], false));
    }
    const play = element("button", { type: "button", textContent: "▶ Play together" });
    play.setAttribute("aria-label", `Play all videos of ${clip.id} together`);
    synchronise(play, takes);
    play.disabled = takes.querySelector("video") === null;
    const article = element("article", { className: "clip" }, element("div", {}, element("h3", { textContent: clip.id }), play), takes);
    article.setAttribute("aria-label", clip.id);
    return article;
  }

  function take(run, clip, name, video, measured, isReference) {
    const values = measured ? measured.values : [];
    const list = element("dl");
    values.forEach((value, index) => {
      const column = run.columns[index];
      if (value === null) return;
      const sign = column.pull && value > 0 ? "+" : "";
      list.append(
        element("dt", { textContent: column.pull ? `${column.label} pull` : column.label }),
        element("dd", { textContent: sign + value.toFixed(column.digits) }),
      );
    });
    const failures = (measured ? measured.failures : []).map(([metrics, reason, message]) =>
      element("p", { className: "failure" }, element("b", { textContent: `${metrics}: ${reason}` }), ` ${message}`));
    const file = measured && measured.file ? `The clip is no longer at ${measured.file}.` : "No clip.";
    return element("div", { className: isReference ? "take reference" : "take" },
      element("h4", { textContent: name }),
      video ? player(video, `${name}, ${clip.id}`) : element("div", { className: "absent", textContent: file }),
      list.children.length ? list : null,
      ...failures);
  }

  function player(path, name) {
    const source = path.split("/").map(encodeURIComponent).join("/");
    const video = element("video", { src: source, controls: true, muted: true, playsInline: true, preload: "none" });
    video.setAttribute("aria-label", name);
    if (near) near.observe(video);
    video.addEventListener("error", () => {
      const link = element("a", { href: source, textContent: "Open the file" });
      video.replaceWith(element("div", { className: "absent" }, "This browser cannot play this clip. ", link));
    });
    // one voice at a time
    video.addEventListener("volumechange", () => {
      if (video.muted) return;
      for (const other of document.querySelectorAll("video")) if (other !== video) other.muted = true;
    });
    return video;
  }

  function synchronise(button, takes) {
    let leader = null;
    const videos = () => [...takes.querySelectorAll("video")];
    const stop = () => {
      leader = null;
      videos().forEach((video) => video.pause());
      button.textContent = "▶ Play together";
    };
    button.addEventListener("click", () => {
      if (leader) { stop(); return; }
      const all = videos();
      leader = all[0];
      if (all.every((video) => video.muted)) leader.muted = false;
      button.textContent = "❚❚ Pause";
      all.forEach((video) => { video.currentTime = 0; });
      Promise.allSettled(all.map((video) => video.play()));
      leader.addEventListener("ended", stop, { once: true });
    });
    takes.addEventListener("timeupdate", (event) => {
      if (event.target !== leader) return;
      for (const video of videos()) {
        const end = Number.isFinite(video.duration) ? video.duration : Infinity;
        const wanted = Math.min(leader.currentTime, end);
        if (video !== leader && !video.ended && Math.abs(video.currentTime - wanted) > DRIFT_S) video.currentTime = wanted;
      }
    }, true);
  }

  startPlots();
  startClips();
})();
