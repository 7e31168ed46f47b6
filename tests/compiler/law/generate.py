"""Small valid specs that use the whole language: pure functions of a generator."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.compiler.law import pieces
from tests.compiler.law.pieces import W, Z


def lines_of(body: str) -> list[str]:
    """The statements of a body, apart at `;` that stands in no brackets."""
    lines, depth = [""], 0
    for token in re.split(r"(; |[(){}])", body):
        depth += (token in ("(", "{")) - (token in (")", "}"))
        if token == "; " and depth == 0:
            lines.append("")
        else:
            lines[-1] += token
    return lines


class Lines:
    """Statements with their indentation."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[str] = []
        self._indent = 0

    def say(self, *lines: str) -> None:
        self.lines += ["  " * self._indent + line for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.say(f"{head} {{")
        self._indent += 1
        yield
        self._indent -= 1
        self.say("}")

    def prior(self, name: str, classes: int, depth: int, given: dict[str, str]) -> None:
        """Write a prior over codes; `given` are flows of what it may be told, by latent, "" for fields."""
        rng = self.rng
        latent = rng.choice(list(given)) if given else ""
        with self.block(f"prior {name}{f' given {latent}' if latent else ''}"):
            field = given.get(latent, "")
            if depth == 1:
                form = rng.choice(pieces.CONDITIONED_PRIORS if field else pieces.PRIORS)
            else:
                form = f"first, _ = chunk(2); h = {rng.choice(pieces.SHARED_OF_DEPTHS)}"
                form += f"; h = h + ({field} -> conv(1x1, 8))" if field else ""
                form += f"; {rng.choice(pieces.HEADS)}"
            self.say(*lines_of(form.replace("FIELD", field).replace("K", str(classes))))


class Writer(Lines):
    """Writes one spec; every choice comes from `rng`."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.quantized = rng.random() < 0.35
        self.sizes = [8, 4, rng.choice((2, 1))][: rng.randint(1, 3)]
        self.square = rng.random() < 0.85
        self.channels = rng.choice((1, 3, 1, 2, 4))
        self.fields: list[str] = []  # of any size of map: classes and numbers
        self.maps: dict[str, int] = {}  # fields with places, by their size
        self.upward = not self.quantized and rng.random() < 0.25
        self.commits = False
        self.weighted = False  # whether some latent has settings of its own, which `bound = iwae` refuses
        self.published: set[int] = set()  # sizes with a named tap

    def write(self) -> str:
        """The text, one statement on a line."""
        rng = self.rng
        self.scored = "mse" if self.quantized and rng.random() < 0.7 else rng.choice(list(pieces.LIKELIHOODS))
        if self.scored == "mse" and rng.random() < 0.3:
            self.scored = "mae"
        if "mixture" in self.scored and self.channels == 2:
            self.channels = 3
        if self.scored.startswith("bernoulli"):
            self.channels = 1
        mapped, more = pieces.LIKELIHOODS.get(self.scored, ("v / 7.5 - 1", ""))
        self.say("hv 1", "model law")
        libraries = len(self.lines)
        self.say(f"let w = {W}", f"let zdim = {Z}", "let mid = [8: 3, 4: 2 * w, else: 5]")
        with self.block("data images"):
            self.say(f"shape = {self.channels}x{self.grid(8)}, bits = 4, input = {mapped}{more}")
            if rng.random() < 0.4:
                self.conditions(mapped, density=self.scored not in ("mse", "mae") and "threshold" not in more)
        self.recipes()
        taps = self.encoder()
        rows, discrete = self.decoder(taps)
        self.lines += rows
        self.say(f"likelihood {self.scored}", f"objective {{ {self.objective()} }}")
        for name, classes, depth, size in discrete:
            field = self.field(size)
            given = {"": field} if field and rng.random() < 0.5 else {}
            below = [(other, of) for other, _, _, of in discrete if of < size and (self.square or of > 1)]
            if below and rng.random() < 0.5:
                other, of = rng.choice(below)
                given[other] = f"({other} -> nearest({size // of}))"
            self.prior(name, classes, depth, given)
        groups = f", {rng.choice(pieces.GROUPS)}" if rng.random() < 0.1 else ""
        self.say(f"train {{ steps = 2, batch = 2, optimizer = adamw(lr = 1e-3){groups} }}")
        self.variants()
        text = "\n".join(self.lines)
        used = [f'use "{file}" as {name}' for name, file in LIBRARIES.items() if f"{name}." in text]
        if "vdvae." in text:
            used.append("let width = w")
            used += [] if "\ndefault conv { bias_init" in text else ["default conv { bias_init = zeros }"]
        self.lines[libraries:libraries] = used
        return "\n".join(self.lines) + "\n"

    def recipes(self) -> None:
        """Write what is defined for all sections."""
        rng = self.rng
        for default in ("conv { bias_init = zeros }", "normal { scale = logvar }", "depthwise { bias = no }"):
            if rng.random() < 0.2:
                self.say(f"default {default}")
        self.say(
            "shared common = conv(1x1, w, bias = yes) -> gelu", "shared sharing = depthwise(3x3, bias = yes) -> affine"
        )
        self.say("shared normed = conv(3x3, w, norm = weight, bias = yes)")
        with self.block("cell both"):
            self.say("a, b = conv(1x1, 2 * w) -> split(w, w)", "a + (b -> gelu)")
        with self.block("cell twice(f)"):
            self.say("f", "f")
        with self.block("cell pair(a, b, join = none)"):
            self.say("concat(a, b, join) -> conv(1x1, channels(a))")
        with self.block("cell swapped"):
            self.say("a, b = x", "b -> gelu, a + b")
        with self.block("cell wide(k, out = channels)"):
            self.say("conv(k, 2 * w) -> gelu", "conv(1x1, out, init = scaled(1 / sqrt(count)))")
        for i in range(2):
            with self.block(f"cell c{i}(n = 1)"):
                for _ in range(rng.randint(1, 3)):
                    self.say(*lines_of(self.statement()))
                self.say("affine * n")

    def grid(self, size: int) -> str:
        """A resolution, as labels and shapes have it."""
        return f"{size}x{size}" if self.square else f"{size}x{max(size // 2, 1)}"

    def label(self, size: int) -> str:
        return str(size) if self.square else self.grid(size)

    def objective(self) -> str:
        rng = self.rng
        errors = self.scored in ("mse", "mae")
        unit = {"mse": "mean_square", "mae": "mean_absolute"}.get(self.scored, "")
        settings = [f"unit = {unit or rng.choice(('nats_per_dim', 'nats_per_image'))}"]
        settings += ["commitment = 0.25"] if self.commits else []
        if not errors and not self.quantized and rng.random() < 0.6:
            more = rng.choice([o for o in pieces.OBJECTIVES if len(self.sizes) > 1 or "balance" not in o])
            more = "samples = 2" if "iwae" in more and self.weighted else more
            settings.append(more)
            if "beta = " not in more and "iwae" not in more and rng.random() < 0.5:
                settings.append(f"beta = {rng.choice(pieces.BETAS)}")
        return ", ".join(settings)

    def variants(self) -> None:
        """Write variants that can be laid over each other."""
        if self.rng.random() < 0.15:
            for name, body in zip("ab", self.rng.sample(pieces.VARIANTS, 2), strict=True):
                self.say(f"variant {name} {{ {body} }}")

    def conditions(self, mapped: str, density: bool) -> None:
        """Write what else is known of an image; `density` where pixels may have weights and another target."""
        rng, pixels = self.rng, f"{self.channels}x{self.grid(8)}"
        drop = rng.choice(("", "", "drop = 0.1"))
        braces = f" {{ {drop} }}" if drop else ""
        label = rng.choice(("", "", "classes = 10", f"given label = 5 classes{braces}"))
        if label:
            self.say(label)
            self.fields.append("label")
        if rng.random() < 0.3:
            self.say(f"given sex = 2 classes{braces}")
            self.fields.append("sex")
        if rng.random() < 0.5:
            self.say(f"given age = {rng.choice((1, 3))} {{ input = (v - 5) / 3{', ' + drop if drop else ''} }}")
            self.fields.append("age")
        if rng.random() < 0.4:
            own = rng.choice((f"input = {mapped}", "source = image, input = v / 7.5 - 1"))
            size = rng.choice((4, 8))
            self.say(f"given low = {self.channels}x{self.grid(size)} {{ {own}{', ' + drop if drop else ''} }}")
            self.maps["low"] = size
        if density and rng.random() < 0.3:
            self.say(f"given clean = {pixels}")
            whole = rng.choice(("clean", "clean", "clean - v")) if self.scored in ("laplace", "normal") else "clean"
            self.say(f"target = {whole if whole == 'clean' else f'({whole})'}{' / 7.5 - 1' if '/' in mapped else ''}")
        if density and rng.random() < 0.3:
            self.say(f"given mask = 1x{self.grid(8)}{rng.choice(('', ' { source = box }'))}", "weight = mask + 0.1")

    def field(self, size: int) -> str:
        """A field, or the map of one at this size; empty where there is none."""
        here = [f if at == size else f"(low -> nearest({size} // {at}))" for f, at in self.maps.items() if at <= size]
        if self.square:  # of whole windows in both directions
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
                    f"({body}) * ({n} if res == {size} else 1)" if self.square else f"({body}) * 2",
                    f"{{ {body} }}",
                    f"parallel({n + 1}, join = {rng.choice(('sum', 'mean', 'delta'))}) {{ {body} }}",
                )
            )
        steps = pieces.STEPS + (pieces.BY_SIZE if self.square else ())
        if size > 2 or (size > 1 and self.square):
            steps += pieces.LARGE + (pieces.LARGE_BY_SIZE if self.square else ())
        return rng.choice(steps)

    def flow(self, size: int, depth: int = 1) -> str:
        return " -> ".join(self.step(size, depth) for _ in range(self.rng.randint(1, 2)))

    def statement(self) -> str:
        """A line of a cell; cells are used at every size, and by each other's like, so it names neither."""
        if self.rng.random() < 0.4:
            return self.rng.choice(pieces.STATEMENTS)
        return " -> ".join(self.rng.choice(pieces.STEPS) for _ in range(self.rng.randint(1, 2)))

    def encoder(self) -> dict[int, int]:
        """Write the encoder; how often each size is tapped."""
        rng = self.rng
        taps: dict[int, int] = {}
        section = ["encoder {"] + (["  default conv { bias = no }"] if rng.random() < 0.15 else [])
        for i, size in enumerate(self.sizes):
            n = taps[size] = rng.randint(1, 2)
            first = ["conv(3x3, w)"] if i == 0 else []
            steps = [rng.choice(("c0", "c1(2)", self.step(size))) for _ in range(rng.randint(0, 2))]
            if self.square and rng.random() < 0.1:
                steps.append("vdvae.block(act = silu)")
            tapped = f"(c1 -> tap) * {n}" if n > 1 else "c0 -> tap"
            if self.upward and size == self.sizes[-1]:
                tapped += " -> up"
            last = self.shrink(size, self.sizes[i + 1]) if i + 1 < len(self.sizes) else []
            if rng.random() < 0.2:
                self.published.add(size)
                flow = f"{' -> '.join([*first, *steps, tapped])}; tap(extra) = {rng.choice(EXTRA)}"
                flow = f"{{ {'; '.join([flow, *last])} }}"
            else:
                flow = " -> ".join([*first, *steps, tapped, *last])
            section.append(f"  {self.label(size)}: {flow}")
        section.append("}")
        if self.upward:
            with self.block("group up"):
                flow = f" -> {rng.choice(pieces.FLOWS)}" if rng.random() < 0.5 else ""
                self.say(f"u ~ posterior normal(gelu -> conv(1x1, 2 * zdim)){flow}", "u -> conv(1x1, w)")
            with self.block("group down"):
                self.say("u ~ normal(conv(1x1, 2 * zdim)) posterior skip(u)", "x + (u -> conv(1x1, w))")
        self.lines += section
        return taps

    def shrink(self, size: int, to: int) -> list[str]:
        """How a row of the encoder ends where the next is smaller."""
        k = size // to
        if not self.square and to == 1:
            return [self.rng.choice((f"avg_pool(({k}, {size // 2}))", f"conv(3x3, w, stride = ({k}, {size // 2}))"))]
        convolutions = (f"conv({k}x{k}, w, stride = {k})", f"conv(3x3, w, stride = {k}, norm = weight)")
        return [self.rng.choice((f"avg_pool({k})", f"avg_pool({k})", f"max_pool({k})", *convolutions))]

    def enlarge(self, size: int, of: int) -> str:
        """How a row of the decoder begins where the one before is smaller."""
        k = size // of
        if not self.square and of == 1:
            return f"nearest(({k}, {size // 2})) -> add(learned(ones))"
        more = (f"upconv({k}x{k}, w, stride = {k})", f"upconv(4x4, w, stride = {k})", f"bilinear({k})")
        nearest = f"nearest({k}) -> add(learned(ones))"
        return self.rng.choice(
            (nearest, nearest, *(more if k == 2 else more[:1]), f"conv(1x1, w * {k * k}) -> pixel_shuffle({k})")
        )

    def decoder(self, taps: dict[int, int]) -> tuple[list[str], list[tuple[str, int, int, int]]]:
        """Write the groups; the decoder's lines, and discrete latents that have a prior: codes, depth, size."""
        rng = self.rng
        rows = ["decoder {"] + (["  default upconv { bias = no }"] if rng.random() < 0.1 else [])
        discrete: list[tuple[str, int, int, int]] = []
        sizes = self.sizes[::-1]
        named = len(sizes) > 1 and rng.random() < 0.15  # the first row's result, read by the last
        for i, size in enumerate(sizes):
            start = "learned(zeros, w)" if i == 0 else self.enlarge(size, sizes[i - 1])
            field = self.field(size) if rng.random() < 0.5 else ""
            label = f" -> {{ x + ({field} -> conv(1x1, w)) }}" if field else ""
            group, once = f"level{size}", taps[size] == 1
            ready = self.square and size > 1 and not self.quantized and rng.random() < 0.1
            classes, depth = (0, 1) if ready else self.group(group, f"z{size}", size)
            if classes and once and rng.random() < 0.7:
                discrete.append((f"z{size}", classes, depth, size))
            group = "vdvae.layer" if ready else group
            up = " -> down" if self.upward and i == 0 else ""
            used = f"{group} * {taps[size]}" if not once else group
            end = " -> conv(1x1, logits)" if size == 8 else ""
            middle = f" -> {self.step(size)}" if rng.random() < 0.5 else ""
            flow = f"{start}{label}{middle} -> {used}{up}"
            if named and i == 0:
                flow = f"{{ start = {flow}; start }}"
            elif named and size == 8 and self.square:
                flow = f"{{ {flow}; concat(x, start -> nearest({size // sizes[0]})) -> gelu{end} }}"
                end = ""
            rows.append(f"  {self.label(size)}: {flow}{end}")
        return [*rows, "}"], discrete

    def group(self, name: str, z: str, size: int) -> tuple[int, int]:
        """Write one group; the number of its codes, 0 where it has none, and their depth."""
        rng = self.rng
        body = f" -> {self.step(size)}" if rng.random() < 0.4 else ""
        field = self.field(size) if rng.random() < 0.5 else ""
        also = ", skip(extra)" if size in self.published else ""
        q = f"q = concat(x, skip{also}{', ' + field if field else ''}) -> conv(1x1, w){body} -> conv(1x1, "
        classes, depth = 0, 1
        with self.block(f"group {name}"):
            if self.quantized:
                prior = rng.choice(list(pieces.QUANTIZERS))
                posterior, classes, depth = pieces.QUANTIZERS[prior]
                self.commits = self.commits or posterior != "round_code"
                turned = ", gradient = rotation" if posterior == "nearest_code" and rng.random() < 0.3 else ""
                wide = 2 if posterior == "round_code" else 3
                self.say(f"{q}{wide})", f"{z} ~ {prior} posterior {posterior}(q{turned})")
            else:
                classes = self.continuous(q, z, self.field(size) if rng.random() < 0.5 else "", size)
                if rng.random() < 0.1:
                    sees = f"concat(q, {z}) -> conv(1x1, 2 * zdim)"
                    self.say(f"y ~ normal({z} -> conv(1x1, 2 * zdim)) posterior normal({sees})")
                    self.say("x + (y -> conv(1x1, w))")
            ends = (f"x + ({z} -> conv(1x1, w, init = scaled(0.5)))", f"concat(x, {z}) -> conv(1x1, w)")
            self.say(rng.choice((*ends, f"h = {z} -> conv(1x1, w); x + h -> c0" if depth == 1 else ends[0])))
        return classes, depth

    def continuous(self, q: str, z: str, field: str, size: int) -> int:
        """Write a latent of a continuous family, or of bits and classes; `field` is what its prior is told.

        Returns the number of its classes, 0 where it has none.
        """
        rng = self.rng
        seen = f"concat(x, {field}) -> " if field else ""
        own = f" {{ {rng.choice(pieces.LATENT_SETTINGS)} }}" if rng.random() < 0.2 else ""
        self.weighted = self.weighted or bool(own)
        family = rng.choice(("normal", "normal", "normal", "laplace", "logistic", "bernoulli", "categorical"))
        if family in ("bernoulli", "categorical"):
            self.say(
                f"{q}{2 * Z})",
                f"p = {seen}gelu -> conv(1x1, {2 * Z})",
                f"{z} ~ {family}(p) posterior {family}(q){own}",
            )
            return 2 * Z if family == "categorical" else 0
        scale = rng.choice(pieces.SCALES)
        self.say(f"{q}2 * zdim)")
        prior = rng.choice(
            (
                "standard(zdim)",
                f"{seen}gelu -> conv(1x1, 2 * zdim)",
                "learned(zeros, 2 * zdim)",
                f"{seen}conv(1x1, 2 * zdim){scale}",
            )
        )
        posterior = rng.choice(("{f}(q)", "{f}(q)", "relative({f}(q), t)", "product(normal(q), t)", "{f}(q + p)"))
        if family != "normal" and "product" in posterior:
            posterior = "{f}(q)"
        if "+ p" in posterior:
            self.say(f"p = {seen}conv(1x1, 2 * zdim)")
            prior = f"p{scale}"
        posterior = posterior.replace("{f}", family).replace("q)", f"q{rng.choice(pieces.SCALES)})")
        flow = f" -> {rng.choice(pieces.FLOWS)}" if rng.random() < 0.3 and posterior.startswith(f"{family}(q") else ""
        floor = ", density_floor = 0.01" if family == "normal" and rng.random() < 0.1 else ""
        self.say(f"t = {family}({prior}{floor})", f"{z} ~ t posterior {posterior}{flow}{own}")
        return 0


EXTRA = ("gelu", "conv(1x1, w)", "c0")  # what is published under a name
LIBRARIES = {"snail": "pixelsnail.hv", "vdvae": "vdvae_cells.hv"}


class CodesWriter(Lines):
    """Writes one spec of priors over codes from a file."""

    def write(self) -> str:
        rng = self.rng
        self.say("hv 1", "model law", 'use "pixelsnail.hv" as snail')
        top, rest = rng.choice(("2x2", "2x3", "1x4", "3x2")), [2, 1][: rng.randint(0, 2)]
        height, width = map(int, top.split("x"))
        levels = {"a": (rng.randint(2, 6), (height, width), rng.choice((1, 1, 2)))}
        for name, k in zip("bc", rest, strict=False):
            levels[name] = (rng.randint(2, 6), (height * k, width * k), rng.choice((1, 1, 2)))
        fields = []
        with self.block("data codes"):
            listed = [
                f"{name}: codes({classes}, {grid[0]}x{grid[1]}{f', depth = {depth}' if depth > 1 else ''})"
                for name, (classes, grid, depth) in levels.items()
            ]
            self.say(f"levels = [{', '.join(listed)}]")
            if rng.random() < 0.4:
                self.say(rng.choice(("classes = 4", "given label = 4 classes { drop = 0.1 }")))
                fields.append("label")
            if rng.random() < 0.2:
                self.say("given sex = 2 classes")
                fields.append("sex")
        for name, (classes, grid, depth) in levels.items():
            given = {"": rng.choice(fields)} if fields and rng.random() < 0.6 else {}
            for other in [other for other in levels if other < name]:
                k = grid[0] // levels[other][1][0]
                if k and rng.random() < 0.5:
                    given[other] = f"({other} -> nearest({k}))" if k > 1 else other
            self.prior(name, classes, depth, given)
        for name in levels:
            self.say(f"train {name} {{ steps = 2, batch = 2, optimizer = adam(lr = 1e-3) }}")
        return "\n".join(self.lines) + "\n"


def generate(rng: random.Random) -> str:
    """A small valid spec."""
    return CodesWriter(rng).write() if rng.random() < 0.08 else Writer(rng).write()
