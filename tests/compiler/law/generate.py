"""Small valid specs that use the whole language, and structural mutations of them: pure functions of a generator."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_W, _Z = 4, 2  # channels of the stream, of a latent

_STEPS = (
    "conv(3x3, w)",
    "conv(1x1, w, init = gaussian(0.1), bias_init = uniform(0, 1))",
    "conv(3x3, w, norm = weight)",
    "conv(3x3, w, norm = weight(gain = log), bias = no)",
    "conv(3x3, w, groups = 2)",
    "conv(3x3, w, dilation = 2, gain = 0.5)",
    "conv(1x1, 2 * w) -> glu",
    "depthwise(3x3)",
    "upconv(3x3, w, stride = 1)",
    "conv(1x1, 4 * w) -> pixel_shuffle(2) -> avg_pool(2)",
    "nearest(2) -> max_pool(2)",
    "bilinear(2, align_corners = yes) -> conv(2x2, w, stride = 2)",
    "avg_pool(3x3, stride = 1)",
    "affine",
    "gelu",
    "silu",
    "swish",
    "elu(0.5)",
    "leaky_relu(0.2)",
    "relu -> conv(1x1, w)",
    "sigmoid",
    "tanh",
    "softplus(2)",
    "clip(-3, 3)",
    "identity",
    "dropout(0.1)",
    "batch_norm -> swish",
    "pad(top = 1, left = 1) -> crop(top = 1, left = 1)",
    "pad_channels(w + 2) -> first_channels(w)",
    "add(learned(gaussian(1)))",
    "add(constant(0.5, w))",
    "both",
    "common",
    "twice(gelu -> conv(1x1, w))",
    "wide(k = 3x3 if res > 2 else 1x1)",
)
_LARGE = (  # where a map has several positions
    "conv(3x3, w, pad = reflect)",
    "group_norm(2)",
    "layer_norm",
    "shift(down = 1)",
    "global_pool -> dense(w) -> nearest(res)",
    "flatten -> dense(w * res * res) -> reshape(4xRESxRES)",
    "{ attention(x -> conv(1x1, w), x -> conv(1x1, w), x, heads = 2) }",
    "{ x * (coordinates(x) -> conv(1x1, w)) }",
)
_STATEMENTS = (
    "x + 0.5 * (x -> conv(1x1, w))",
    "1 - x / 2",
    "2 / (3 + (x -> sigmoid))",
    "h = -x; h + 1",
    "mean(x, x -> gelu -> conv(1x1, w))",
    "concat(x, x -> tanh) -> conv(1x1, w)",
    "a, b = conv(1x1, 2 * w) -> chunk(2); a * (b -> sigmoid)",
    "a, _ = conv(1x1, w + 1) -> split(w, 1); a - x",
    "let n = channels // 2; conv(1x1, n) -> gelu -> conv(1x1, 2 * n)",
    "shared s = gelu -> conv(1x1, w); x -> s -> s",
    "default conv { bias = no }; conv(1x1, w)",
    "(gelu if index == 0 else elu) -> conv(1x1, w)",
)
_FLOWS = (
    "iaf(shift) { conv(3x3, channels, mask = causal(before)) }",
    "iaf(affine) { h = conv(3x3, 4, mask = causal(before)) -> elu; h -> conv(1x1, channels, mask = causal(upto)), "
    "0.1 * (h -> conv(1x1, channels, mask = causal(upto))) }",
    "iaf(gated) { conv(3x3, channels, mask = causal(before)), conv(3x3, channels, mask = causal(before)) }",
)
_PRIORS = (
    "conv(3, 8, mask = causal(exclude)) -> elu -> conv(1x1, K)",
    "conv((1, 2), 8, pad = (0, 0, 1, 0)) -> shift(right = 1) -> gelu -> conv(1x1, K)",
    "conv(3, 8, mask = causal(exclude)) -> (residual { elu -> conv(3, 8, mask = causal(all)) }) * 2 -> conv(1x1, K)",
    "h = conv(3, 8, mask = causal(exclude)); attention(h -> conv(1x1, 8), h, h, causal = strict) "
    "-> layer_norm -> conv(1x1, K)",
    "h = conv(3, 8, mask = causal(exclude)) -> batch_norm; h * (coordinates(x) -> conv(1x1, 8)) -> conv(1x1, K)",
    "concat(x -> conv(3, 8, mask = causal(exclude)), coordinates(x)) -> conv(1x1, 16) -> glu -> conv(1x1, K)",
    "a, b = conv(3, 16, mask = causal(exclude)) -> chunk(2); a * (b -> sigmoid) -> affine -> conv(1x1, K)",
    "conv(3, 8, mask = causal(exclude)) -> parallel(2, join = mean) { conv(1x1, 8) -> gelu } -> conv(1x1, K)",
)
_LIKELIHOODS = {  # how pixels enter, and what scores them
    "discretized_logistic_mixture(2)": ("v / 7.5 - 1", ""),
    "discretized_logistic_mixture(2, bins = published)": ("v / 7.5 - 1", ""),
    "discretized_logistic(scale = learned)": ("v / 7.5 - 1", ""),
    "discretized_logistic(scale = softplus(0.7))": ("v / 7.5 - 1", ""),
    "normal(scale = softplus)": ("v / 7.5 - 1", ""),
    "laplace": ("v / 7.5 - 1", ""),
    "categorical": ("v / 7.5 - 1", ""),
    "bernoulli": ("v", ", binarize = threshold"),
}
_CONDITIONED_PRIORS = (
    "h = conv(3, 8, mask = causal(exclude)); h + (FIELD -> conv(1x1, 8)) -> elu -> conv(1x1, K)",
    "concat(x -> conv(3, 8, mask = causal(exclude)), FIELD) -> conv(1x1, 8) -> gelu -> conv(1x1, K)",
)
_BETAS = (
    "ramp(from = 0.1, length = fraction(0.5))",
    "linear(from = 0, to = 2, length = 20)",
    "cosine(from = 0.5, to = 1, length = 20)",
    "cyclic(length = 10)",
    "logistic(middle = 10, width = 3)",
    "0.5",
)
_LATENT_SETTINGS = (
    "weight = 1 / (1 + index)",
    "free = at_least(0.1)",
    "free = none",
    "temperature = 0.9",
    "weight = 0",
)
_QUANTIZERS = {
    "codebook(6, D)": "nearest_code",
    "codebook(6, D, update = gradient, distance = cosine)": "nearest_code",
    "codebook(6, D, update = linear)": "nearest_code",
    "codebook(6, D, depth = 2)": "nearest_code",
    "finite_scalar(3, 4)": "round_code",
    "lookup_free(D)": "sign_code",
}


class Writer:
    """Writes one spec; every choice comes from `rng`."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.quantized = rng.random() < 0.3
        self.sizes = [8, 4, rng.choice((2, 1))][: rng.randint(1, 3)]
        self.channels = rng.choice((1, 3, 1, 2, 4))
        self.fields: list[str] = []  # of any size of map: classes and numbers
        self.classes: list[str] = []  # those of them that are classes, which priors over codes take
        self.maps: dict[str, int] = {}  # fields with places, by their size
        self.upward = not self.quantized and rng.random() < 0.25
        self.lines: list[str] = []
        self._indent = 0

    def write(self) -> str:
        """The text, one statement on a line."""
        rng = self.rng
        scored = "mse" if self.quantized else rng.choice(list(_LIKELIHOODS))
        if "mixture" in scored and self.channels == 2:
            self.channels = 3
        if scored == "bernoulli":
            self.channels = 1
        mapped, more = _LIKELIHOODS.get(scored, ("v / 7.5 - 1", ""))
        self.say("hv 1", "model law", f"let w = {_W}", f"let zdim = {_Z}")
        with self.block("data images"):
            self.say(f"shape = {self.channels}x8x8, bits = 4, input = {mapped}{more}")
            if rng.random() < 0.4:
                self.conditions(mapped, density=scored != "mse" and "threshold" not in more)
        if rng.random() < 0.3:
            self.say("default conv { bias_init = zeros }")
        self.say("shared common = conv(1x1, w) -> gelu")
        with self.block("cell both"):
            self.say("a, b = conv(1x1, 2 * w) -> split(w, w)", "a + (b -> gelu)")
        with self.block("cell twice(f)"):
            self.say("f", "f")
        with self.block("cell wide(k, out = channels)"):
            self.say("conv(k, 2 * w) -> gelu", "conv(1x1, out, init = scaled(1 / sqrt(count)))")
        for i in range(2):
            with self.block(f"cell c{i}(n = 1)"):
                for _ in range(rng.randint(1, 3)):
                    self.say(*self.statement(4).split("; "))
                self.say("affine * n")
        taps, priors = self.encoder(), self.decoder
        rows, discrete = priors(taps)
        self.lines += rows
        self.say(f"likelihood {scored}")
        unit = "mean_square" if self.quantized else rng.choice(("nats_per_dim", "nats_per_image"))
        beta = f", beta = {rng.choice(_BETAS)}" if not self.quantized and rng.random() < 0.3 else ""
        self.say(f"objective {{ unit = {unit}{', commitment = 0.25' if self.commits else ''}{beta} }}")
        for name, classes in discrete:
            with self.block(f"prior {name}"):
                forms = _CONDITIONED_PRIORS if self.classes and rng.random() < 0.6 else _PRIORS
                field = rng.choice(self.classes) if self.classes else ""
                self.say(*rng.choice(forms).replace("FIELD", field).replace("K", str(classes)).split("; "))
        groups = ', groups = ["encoder": frozen, "*.bias": trained(lr = 1e-4)]' if rng.random() < 0.1 else ""
        self.say(f"train {{ steps = 2, batch = 2, optimizer = adam(lr = 1e-3){groups} }}")
        return "\n".join(self.lines) + "\n"

    def say(self, *lines: str) -> None:
        self.lines += ["  " * self._indent + line for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.say(f"{head} {{")
        self._indent += 1
        yield
        self._indent -= 1
        self.say("}")

    def conditions(self, mapped: str, density: bool) -> None:
        """Write what else is known of an image; `density` where pixels may have weights and another target."""
        rng, pixels = self.rng, f"{self.channels}x8x8"
        drop = rng.choice(("", "", "drop = 0.1"))
        braces = f" {{ {drop} }}" if drop else ""
        label = rng.choice(("", "", "classes = 10", f"given label = 5 classes{braces}"))
        if label:
            self.say(label)
            self.classes.append("label")
        if rng.random() < 0.3:
            self.say(f"given sex = 2 classes{braces}")
            self.classes.append("sex")
        self.fields += self.classes
        if rng.random() < 0.5:
            self.say(f"given age = {rng.choice((1, 3))} {{ input = (v - 5) / 3{', ' + drop if drop else ''} }}")
            self.fields.append("age")
        if rng.random() < 0.4:
            own = rng.choice((f"input = {mapped}", "source = image, input = v / 7.5 - 1"))
            size = rng.choice((4, 8))
            self.say(f"given low = {self.channels}x{size}x{size} {{ {own}{', ' + drop if drop else ''} }}")
            self.maps["low"] = size
        if density and rng.random() < 0.3:
            self.say(f"given clean = {pixels}", f"target = clean{' / 7.5 - 1' if '/' in mapped else ''}")
        if density and rng.random() < 0.3:
            self.say(f"given mask = 1x8x8{rng.choice(('', ' { source = box }'))}", "weight = mask + 0.1")

    def field(self, size: int) -> str:
        """A field, or the map of one at this size; empty where there is none."""
        here = [f if at == size else f"(low -> nearest({size} // {at}))" for f, at in self.maps.items() if at <= size]
        here += [f"(low -> avg_pool({at // size}))" for at in self.maps.values() if at > size]
        return self.rng.choice([*self.fields, *here]) if self.fields or here else ""

    def step(self, size: int, depth: int = 1) -> str:
        """Something that keeps the shape of the stream."""
        rng = self.rng
        if (field := self.field(size)) and rng.random() < 0.2:
            return rng.choice((f"{{ x + ({field} -> conv(1x1, w)) }}", f"{{ concat(x, {field}) -> conv(1x1, w) }}"))
        if depth and rng.random() < 0.3:
            body, n = self.flow(size, depth - 1), rng.randint(1, 2)
            return rng.choice(
                (
                    f"residual(scale = 0.5) {{ {body} }}",
                    f"residual(shortcut = conv(1x1, w)) {{ {body} }}",
                    f"({body}) * {n}",
                    f"{{ {body} }}",
                    f"parallel({n + 1}, join = {rng.choice(('sum', 'mean', 'delta'))}) {{ {body} }}",
                )
            )
        steps = _STEPS + _LARGE if size > 1 else _STEPS
        return rng.choice(steps).replace("RES", str(size))

    def flow(self, size: int, depth: int = 1) -> str:
        return " -> ".join(self.step(size, depth) for _ in range(self.rng.randint(1, 2)))

    def statement(self, size: int) -> str:
        """A line of a cell; cells are used at every size, so it names none."""
        if self.rng.random() < 0.4:
            return self.rng.choice(_STATEMENTS)
        return " -> ".join(self.rng.choice(_STEPS[:31]) for _ in range(self.rng.randint(1, 2)))

    def encoder(self) -> dict[int, int]:
        """Write the encoder; how often each size is tapped."""
        taps: dict[int, int] = {}
        self._section = ["encoder {"]
        for i, size in enumerate(self.sizes):
            n = taps[size] = self.rng.randint(1, 2)
            first = ["conv(3x3, w)"] if i == 0 else []
            steps = [self.rng.choice(("c0", "c1(2)", self.step(size))) for _ in range(self.rng.randint(0, 2))]
            tapped = f"(c1 -> tap) * {n}" if n > 1 else "c0 -> tap"
            if self.upward and size == self.sizes[-1]:
                tapped += " -> up"
            below = self.sizes[i + 1 : i + 2]
            last = [f"avg_pool({size // below[0]})"] if below else []
            self._section.append(f"  {size}: " + " -> ".join([*first, *steps, tapped, *last]))
        self._section.append("}")
        if self.upward:
            with self.block("group up"):
                flow = f" -> {self.rng.choice(_FLOWS)}" if self.rng.random() < 0.5 else ""
                self.say(f"u ~ posterior normal(gelu -> conv(1x1, 2 * zdim)){flow}", "u -> conv(1x1, w)")
            with self.block("group down"):
                self.say("u ~ normal(conv(1x1, 2 * zdim)) posterior skip(u)", "x + (u -> conv(1x1, w))")
        self.lines += self._section
        return taps

    def decoder(self, taps: dict[int, int]) -> tuple[list[str], list[tuple[str, int]]]:
        """Write the groups; the decoder's lines, and discrete latents that may have a prior with their classes."""
        rng, rows, discrete = self.rng, ["decoder {"], []
        self.commits = False
        sizes = self.sizes[::-1]
        for i, size in enumerate(sizes):
            start = "learned(zeros, w)" if i == 0 else f"nearest({size // sizes[i - 1]}) -> add(learned(ones))"
            field = self.field(size) if rng.random() < 0.5 else ""
            label = f" -> {{ x + ({field} -> conv(1x1, w)) }}" if field else ""
            group, once = f"level{size}", taps[size] == 1
            classes = self.group(group, f"z{size}", size)
            if classes and once and rng.random() < 0.7:
                discrete.append((f"z{size}", classes))
            up = " -> down" if self.upward and i == 0 else ""
            used = f"{group} * {taps[size]}" if not once else group
            end = " -> conv(1x1, logits)" if size == 8 else ""
            middle = f" -> {self.step(size)}" if rng.random() < 0.5 else ""
            rows.append(f"  {size}: {start}{label}{middle} -> {used}{up}{end}")
        return [*rows, "}"], discrete

    def group(self, name: str, z: str, size: int) -> int:
        """Write one group; the number of its codes where it is quantized to one code at each position."""
        rng = self.rng
        body = f" -> {self.step(size)}" if rng.random() < 0.4 else ""
        field = self.field(size) if rng.random() < 0.5 else ""
        q = f"q = concat(x, skip{', ' + field if field else ''}) -> conv(1x1, w){body} -> conv(1x1, "
        classes = 0
        with self.block(f"group {name}"):
            if self.quantized:
                prior = rng.choice(list(_QUANTIZERS)).replace("D", "3")
                posterior = next(p for k, p in _QUANTIZERS.items() if k.replace("D", "3") == prior)
                self.commits = self.commits or posterior != "round_code"
                self.say(f"{q}{2 if posterior == 'round_code' else 3})", f"{z} ~ {prior} posterior {posterior}(q)")
                classes = 0 if "depth" in prior else 6 if "codebook" in prior else 12 if "finite" in prior else 8
            else:
                self.continuous(q, z, self.field(size) if rng.random() < 0.5 else "")
            self.say(rng.choice((f"x + ({z} -> conv(1x1, w, init = scaled(0.5)))", f"concat(x, {z}) -> conv(1x1, w)")))
        return classes

    def continuous(self, q: str, z: str, field: str) -> None:
        """Write a latent of a continuous family, or of bits and classes; `field` is what its prior is told."""
        rng = self.rng
        seen = f"concat(x, {field}) -> " if field else ""
        own = f" {{ {rng.choice(_LATENT_SETTINGS)} }}" if rng.random() < 0.2 else ""
        family = rng.choice(("normal", "normal", "normal", "laplace", "logistic", "bernoulli", "categorical"))
        if family in ("bernoulli", "categorical"):
            self.say(
                f"{q}2 * zdim)",
                f"p = {seen}gelu -> conv(1x1, 2 * zdim)",
                f"{z} ~ {family}(p) posterior {family}(q){own}",
            )
            return
        scale = rng.choice(("", ", scale = softplus", ", scale = exp(soft_clamp = 5, add = 0.01)"))
        self.say(f"{q}2 * zdim)")
        prior = rng.choice(
            (
                "standard(zdim)",
                f"{seen}gelu -> conv(1x1, 2 * zdim)",
                "learned(zeros, 2 * zdim)",
                f"{seen}conv(1x1, 2 * zdim){scale}",
            )
        )
        posterior = rng.choice(("{f}(q)", "relative({f}(q), t)", "product(normal(q), t)"))
        if family != "normal" and "product" in posterior:
            posterior = "{f}(q)"
        posterior = posterior.replace("{f}", family)
        flow = f" -> {rng.choice(_FLOWS)}" if rng.random() < 0.3 and posterior == f"{family}(q)" else ""
        self.say(f"t = {family}({prior})", f"{z} ~ t posterior {posterior}{flow}{own}")


def generate(rng: random.Random) -> str:
    """A small valid spec."""
    return Writer(rng).write()


def _flow(line: str) -> list[str]:
    """The steps of a line, apart at arrows that stand in no brackets."""
    parts, depth = [""], 0
    for token in re.split(r"( -> |[(){}\[\]])", line):
        depth += (token in ("(", "{", "[")) - (token in (")", "}", "]"))
        if token == " -> " and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return parts


_HEADS = re.compile(r"^\s*(hv|model|\}|.*\{$)")
_WORD = re.compile(r"\b[a-z_]\w*\b")


def mutate(text: str, other: str, rng: random.Random) -> str:
    """One structural change of a spec: statements dropped, swapped, doubled, taken from another; steps; names."""
    lines = text.splitlines()
    places = [i for i, line in enumerate(lines) if not _HEADS.match(line)]
    i, j = rng.choice(places), rng.choice(places)

    def drop() -> None:
        del lines[i]

    def swap() -> None:
        lines[i], lines[j] = lines[j], lines[i]

    def double() -> None:
        lines.insert(i, lines[i])

    def splice() -> None:
        donor = [line for line in other.splitlines() if not _HEADS.match(line)]
        line = rng.choice(donor)
        if rng.random() < 0.5:
            lines[i] = line
        else:
            lines.insert(i, line)

    def discard() -> None:
        _, _, body = lines[i].partition(" = ")
        space = lines[i][: len(lines[i]) - len(lines[i].lstrip())]
        lines[i] = f"{space}_ = {body or lines[i].strip()}"

    def steps() -> None:
        parts = _flow(lines[i])
        k = rng.randrange(len(parts))
        action = rng.randrange(3)
        if action == 0 and len(parts) > 1:
            del parts[k]
        elif action == 1:
            donors = [p for line in (text + other).splitlines() for p in _flow(line)[1:]]
            parts.insert(k + 1, rng.choice(donors))
        else:
            m = rng.randrange(len(parts))
            parts[k], parts[m] = parts[m], parts[k]
        lines[i] = " -> ".join(parts)

    def rename() -> None:
        words = _WORD.findall(text)
        old, new = rng.choice(words), rng.choice(words)
        if rng.random() < 0.5:
            lines[i] = re.sub(rf"\b{old}\b", new, lines[i])
        else:
            lines[:] = [re.sub(rf"\b{old}\b", new, line) for line in lines]

    changes: tuple[Callable[[], None], ...] = (drop, swap, double, splice, splice, discard, steps, steps, rename)
    rng.choice(changes)()
    return "\n".join(lines) + "\n"
