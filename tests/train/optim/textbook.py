"""The update rules as slow loops in float64 over lists of numpy arrays: what the optimizers are compared with."""

import numpy as np


def dot(a, b):
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))


def ecd(theta, gradient, loss, steps, lrs, etas, decays, F0, conserve_energy, projection):
    """Yield theta after every step; lr, eta and weight decay are given per tensor."""
    d = sum(t.size for t in theta)
    P = None
    for _ in range(steps):
        g = gradient(theta)
        if P is None:
            P = [-x / dot(g, g) ** 0.5 for x in g]
        V = loss(theta) + sum(wd * (t * t).sum() / 2 for wd, t in zip(decays, theta, strict=True)) - F0
        if V > 1e-40:
            g = [x + wd * t for x, wd, t in zip(g, decays, theta, strict=True)]
            if conserve_energy:
                P = [p / dot(P, P) ** 0.5 for p in P]
            whole = dot(P, g)
            new = []
            for p, x, lr, eta in zip(P, g, lrs, etas, strict=True):
                along = whole if projection == "global" else (p * x).sum()
                new.append(p - lr / eta**0.5 * eta / 2 * d / (d - 1) / V * (x - p * along))
            P = new
            theta = [t + lr / eta**0.5 * p for t, p, lr, eta in zip(theta, P, lrs, etas, strict=True)]
        yield theta


def ecdsep(theta, gradient, loss, steps, lrs, eta, decays, F0, s, deltaEn, conserve_energy):
    P = None
    for _ in range(steps):
        g = gradient(theta)
        L = loss(theta) + sum(wd * (t * t).sum() / 2 for wd, t in zip(decays, theta, strict=True)) - F0
        if P is None:
            excess = deltaEn if s == 1 else 1.0
            P = [-x * (excess / dot(g, g)) ** 0.5 for x in g]
            E = L**eta * (s + excess)
        g = [x + wd * t for x, wd, t in zip(g, decays, theta, strict=True)]
        square = E / L**eta - s
        if conserve_energy and square > 0 and dot(P, P) > 0:
            P = [p * (square / dot(P, P)) ** 0.5 for p in P]
        P = [p - lr * eta / L * x for p, x, lr in zip(P, g, lrs, strict=True)]
        inertia = s + dot(P, P)
        theta = [t + 2 * lr * p / inertia for t, p, lr in zip(theta, P, lrs, strict=True)]
        yield theta


def bbi(theta, gradient, loss, steps, lrs, v0, deltaEn, conserve_energy):
    P = None
    for _ in range(steps):
        g, V = gradient(theta), loss(theta) - v0
        if P is None:
            E = V + deltaEn
            P = [-x / dot([x], [x]) ** 0.5 * np.sqrt(E**2 / V - V) for x in g]
        square = V * ((E / V) ** 2 - 1)
        if conserve_energy and square > 0 and dot(P, P) > 0:
            P = [p * (square / dot(P, P)) ** 0.5 for p in P]
        P = [p - lr / 2 * (V / E + E / V) * x for p, x, lr in zip(P, g, lrs, strict=True)]
        theta = [t + lr * V / E * p for t, p, lr in zip(theta, P, lrs, strict=True)]
        yield theta
